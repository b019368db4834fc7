-- Sixteen fields as a browser sends them; four of them change from request to request.
dofile("load/turns.lua")(function(i)
  return wrk.format(nil, "/", {
    ["Host"] = "www.example.com",
    ["Connection"] = "keep-alive",
    ["Cache-Control"] = "max-age=0",
    ["sec-ch-ua"] = '"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    ["sec-ch-ua-mobile"] = "?0",
    ["sec-ch-ua-platform"] = '"Linux"',
    ["Upgrade-Insecure-Requests"] = "1",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0." .. i,
    ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ["Sec-Fetch-Site"] = "same-origin",
    ["Sec-Fetch-Mode"] = "navigate",
    ["Sec-Fetch-Dest"] = "document",
    ["Referer"] = "https://www.example.com/shop/items?page=" .. i,
    ["Accept-Encoding"] = "gzip, deflate, br, zstd",
    ["Accept-Language"] = "en-GB,en;q=0.9,de;q=0." .. i,
    ["Cookie"] = "session=c0ffee" .. i .. "; theme=dark; consent=yes",
  })
end)
