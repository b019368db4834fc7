dofile("load/report.lua")
wrk.method = "POST"
wrk.body = string.rep("p", 200000)
wrk.headers["Content-Type"] = "application/octet-stream"
