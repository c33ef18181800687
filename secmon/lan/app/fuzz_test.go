package app_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"warder/secmon/lan/app"
	"warder/secmon/lan/packet"
)

// FuzzDNS holds questions against x/net's parser.
func FuzzDNS(f *testing.F) {
	f.Add(question(f, "www.example.org.", dnsmessage.TypeA))
	f.Add(question(f, "a.b.", dnsmessage.TypeTXT))
	f.Add([]byte("\x00\x07\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, ok := app.ReadDNS(p)
		if len(m.Name) > 255 || len(m.Answers) > 16 {
			t.Fatalf("%d bytes of name, %d answers", len(m.Name), len(m.Answers))
		}
		var parser dnsmessage.Parser
		h, err := parser.Start(p)
		if err != nil {
			return
		}
		q, err := parser.Question()
		if err != nil || !ok {
			return
		}
		name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
		if clean(name) && (m.Name != name || m.Answer != h.Response || m.ID != h.ID) {
			t.Fatalf("%+v; x/net has %v %v", m, h, q)
		}
	})
}

func clean(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) < 0
}

// FuzzHTTP has a side say anything, and holds a request that both understand against
// net/http's.
func FuzzHTTP(f *testing.F) {
	f.Add([]byte("GET /a?q=1 HTTP/1.1\r\nHost: web\r\nUser-Agent: curl/8\r\n\r\n"), false)
	f.Add([]byte("PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), true)
	f.Fuzz(func(t *testing.T, p []byte, answers bool) {
		side := 0
		if answers {
			side = 1
		}
		e := &app.Exchange{}
		var first *app.Head
		for rest, turns := p, 0; len(rest) > 0; turns++ {
			h, used, skip, ok := e.Next(side, rest)
			if used < 0 || used > len(rest) || skip < 0 || turns > 2*len(p)+2 {
				t.Fatalf("used %d of %d, skip %d, turn %d", used, len(rest), skip, turns)
			}
			if first == nil {
				first = h
			}
			if !ok || used == 0 && skip == 0 {
				break
			}
			rest = rest[used:]
			rest = rest[min(skip, int64(len(rest))):]
		}
		if first == nil || answers {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p)))
		if err != nil || r.Method == "CONNECT" || !strings.HasPrefix(r.RequestURI, "/") || !clean(r.RequestURI+r.Host) || len(p) > 1024 {
			return
		}
		if first.Method != r.Method || len(r.Header["Host"]) == 0 && first.Path+"?"+first.Query != r.RequestURI && first.Path != r.RequestURI && first.Path+"?" != r.RequestURI {
			t.Fatalf("%+v; net/http has %s %s", first, r.Method, r.RequestURI)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello(f, &tls.Config{ServerName: "web.example.org", NextProtos: []string{"h2"}}))
	f.Add(hello(f, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, more := app.ReadHello(p)
		if h != nil && (more || len(h.JA4) < 36 || !clean(h.ServerName) || len(h.ALPN) > 8) {
			t.Fatalf("%+v, more %v", h, more)
		}
	})
}

func FuzzRecognise(f *testing.F) {
	f.Add([]byte("SSH-2.0-OpenSSH_9.2p1\r\n"))
	f.Add([]byte("*1\r\n$4\r\nPING\r\n"))
	f.Add(question(f, "a.", dnsmessage.TypeA))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, transport := range []uint8{packet.TCP, packet.UDP} {
			for side := range 2 {
				if got, v := app.Recognise(transport, side, p); (got != "") != (v == app.Yes) || len(p) >= app.Decisive && v == app.More {
					t.Fatalf("%q, %v", got, v)
				}
			}
		}
		app.Banner(p)
	})
}
