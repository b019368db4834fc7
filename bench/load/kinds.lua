-- Four kinds of clients in turn, as a site's visitors or a proxy send them: other names, in another order, other values.
local chrome = '"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"'
local referer = "Referer: https://www.example.com/shop/items?page=@"
local cookie = "Cookie: session=c0ffee@; theme=dark; consent=yes"
local kinds = {
  {
    "Host: www.example.com",
    "Connection: keep-alive",
    "Cache-Control: max-age=0",
    "sec-ch-ua: " .. chrome,
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    referer,
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9",
    cookie,
  },
  {
    "Host: www.example.com",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Connection: keep-alive",
    referer,
    cookie,
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Priority: u=0, i",
  },
  {
    "Host: www.example.com",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    cookie,
    "Sec-Fetch-Dest: document",
    "Accept-Language: en-GB,en;q=0.9",
    "Sec-Fetch-Mode: navigate",
    "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
    referer,
    "Accept-Encoding: gzip, deflate, br",
    "Connection: keep-alive",
  },
  {
    "Host: www.example.com",
    "Connection: keep-alive",
    'sec-ch-ua-platform: "Android"',
    "User-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
    "Accept: application/json",
    "sec-ch-ua: " .. chrome,
    "sec-ch-ua-mobile: ?1",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Dest: empty",
    referer,
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: de-DE,de;q=0.9,en;q=0.8",
    cookie,
  },
}
dofile("load/turns.lua")(function(i)
  local fields = table.concat(kinds[i % #kinds + 1], "\r\n"):gsub("@", tostring(i))
  return "GET / HTTP/1.1\r\n" .. fields .. "\r\n\r\n"
end)
