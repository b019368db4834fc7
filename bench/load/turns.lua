-- 64 requests one after the other, again and again: `make(i)` is the text of one. The scripts that send such call it.
dofile("load/report.lua")
return function(make)
  local requests, turn = {}, 0
  function init(args)
    for i = 1, 64 do
      requests[i] = make(i)
    end
  end
  function request()
    turn = turn % 64 + 1
    return requests[turn]
  end
end
