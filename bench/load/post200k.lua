dofile("load/post.lua")(200000)
