dofile("load/report.lua")
