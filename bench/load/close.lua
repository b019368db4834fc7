dofile("load/report.lua")
wrk.headers["Connection"] = "close"
