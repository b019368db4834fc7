-- A POST of `size` bytes; the scripts named after their sizes call it.
dofile("load/report.lua")
return function(size)
  wrk.method = "POST"
  wrk.body = string.rep("p", size)
  wrk.headers["Content-Type"] = "application/octet-stream"
end
