dofile("load/post.lua")(65536)
