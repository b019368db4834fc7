dofile("load/post.lua")(1000000)
