dofile("load/report.lua")
wrk.method = "POST"
wrk.body = string.rep("p", 1000000)
wrk.headers["Content-Type"] = "application/octet-stream"
