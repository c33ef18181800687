package app_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"warder/secmon/lan/app"
	"warder/secmon/lan/packet"
)

// question is a DNS message that asks for a name.
func question(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReadDNS(t *testing.T) {
	name := dnsmessage.MustNewName("www.Example.org.")
	header := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true, RCode: dnsmessage.RCodeSuccess},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{
			{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("web.example.org.")}},
			{Header: header, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
			{Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}},
			{Header: header, Body: &dnsmessage.TXTResource{TXT: []string{"v=spf1 -all"}}},
		},
	}
	p, err := answer.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got, ok := app.ReadDNS(p)
	carried := got.Carried
	got.Carried = 0
	want := app.Message{
		ID: 7, Answer: true, Name: "www.example.org", Type: "A", Code: "NOERROR",
		Answers: []string{"web.example.org", "192.0.2.1", "2001:db8::1", "v=spf1 -all"},
	}
	if !ok || !reflect.DeepEqual(got, want) || carried < 4+16+12 {
		t.Errorf("got %+v, carried %d", got, carried)
	}
	if q, ok := app.ReadDNS(question(t, "a.b.", dnsmessage.TypeTXT)); !ok || q.Answer || q.Name != "a.b" || q.Type != "TXT" {
		t.Errorf("question: %+v", q)
	}
}

func TestDNSNamesEnd(t *testing.T) {
	head := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for name, rest := range map[string][]byte{
		"pointer to itself": {0xc0, 12, 0, 1, 0, 1},
		"pointer ahead":     {0xc0, 14, 1, 'a', 0, 0, 1, 0, 1},
		"label beyond":      {63, 'a'},
		"odd label":         {0x80, 1, 0, 1, 0, 1},
		"long":              append(bytes.Repeat(append([]byte{63}, make([]byte, 63)...), 5), 0, 0, 1, 0, 1),
		"none":              {},
	} {
		if m, ok := app.ReadDNS(append(bytes.Clone(head), rest...)); ok {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// read has an exchange read what a side says, all at once or byte by byte.
func read(t *testing.T, e *app.Exchange, side int, stream string, step int) (heads []string, ok bool) {
	t.Helper()
	var buf []byte
	skip := int64(0)
	for len(stream) > 0 {
		n := min(step, len(stream))
		add := stream[:n]
		stream = stream[n:]
		drop := min(skip, int64(len(add)))
		skip -= drop
		buf = append(buf, add[drop:]...)
		for len(buf) > 0 {
			h, used, more, ok := e.Next(side, buf)
			if !ok {
				return heads, false
			}
			if h != nil {
				heads = append(heads, fmt.Sprintf("%s %s %s %s %s %d", h.Method, h.Host, h.Path, h.Query, h.UserAgent, h.Status))
			}
			buf = buf[used:]
			drop := min(more, int64(len(buf)))
			buf, skip = buf[drop:], skip+more-drop
			if used == 0 && more == 0 {
				break
			}
		}
	}
	return heads, true
}

func TestHTTPExchange(t *testing.T) {
	requests := "GET /a?q=1 HTTP/1.1\r\nHost: web\r\nUser-Agent: curl/8\r\n\r\n" +
		"POST /b HTTP/1.1\r\nhost: web\r\nContent-Length: 40\r\n\r\nGET /not-a-request HTTP/1.1\r\nHost: x\r\n\r\n" +
		"PUT /c HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;x=y\r\nGET /\r\n1d\r\nGET /no HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\nTrailer: GET /\r\n\r\n" +
		"HEAD http://other/d HTTP/1.0\r\n\r\n"
	wantRequests := []string{"GET web /a q=1 curl/8 0", "POST web /b   0", "PUT  /c   0", "HEAD other /d   0"}
	answers := "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n" +
		"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 503 Service Unavailable\r\n\r\nall that follows"
	// Of the four requests one was for a head alone, the last.
	wantAnswers := []string{"     100", "     200", "     304", "     204", "     200", "     503"}
	for _, step := range []int{1, 3, 7, 1 << 20} {
		e := &app.Exchange{}
		got, ok := read(t, e, 0, requests, step)
		if !ok || !reflect.DeepEqual(got, wantRequests) {
			t.Errorf("steps of %d: requests %q", step, got)
		}
		e = &app.Exchange{}
		got, ok = read(t, e, 1, strings.Replace(answers, "Length: 1000", "Length: 0", 1), step)
		if !ok || !reflect.DeepEqual(got, wantAnswers) {
			t.Errorf("steps of %d: answers %q", step, got)
		}
	}
}

func TestAnswerToHeadHasNoBody(t *testing.T) {
	e := &app.Exchange{}
	read(t, e, 0, "HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1000)
	got, ok := read(t, e, 1, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", 1000)
	if !ok || len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestNoHTTP(t *testing.T) {
	for _, s := range []string{"GET /\x00" + strings.Repeat("x", app.MaxHead), "\x16\x03\x01\x00\x05 hello", "GETX / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"} {
		if got, ok := read(t, &app.Exchange{}, 0, s, 100); ok {
			t.Errorf("%.40q is taken for HTTP: %q", s, got)
		}
	}
}

// hello is what crypto/tls sends first.
func hello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		tls.Client(far, cfg).Handshake() // fails when the pipe is closed
		far.Close()
	}()
	near.SetDeadline(time.Now().Add(time.Minute))
	var b bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := near.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(buf[:n])
		if p := b.Bytes(); len(p) >= 5 && len(p) >= 5+int(binary.BigEndian.Uint16(p[3:])) {
			return p
		}
	}
}

func TestReadHello(t *testing.T) {
	p := hello(t, &tls.Config{ServerName: "Web.Example.org", NextProtos: []string{"h2", "http/1.1"}, MaxVersion: tls.VersionTLS13})
	h, _ := app.ReadHello(p)
	if h == nil || h.ServerName != "web.example.org" || !reflect.DeepEqual(h.ALPN, []string{"h2", "http/1.1"}) || !strings.HasPrefix(h.JA4, "t13d") || !strings.Contains(h.JA4, "h2_") {
		t.Fatalf("%+v", h)
	}
	old, _ := app.ReadHello(hello(t, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}))
	if old == nil || old.ServerName != "" || !strings.HasPrefix(old.JA4, "t12i") || old.JA4[8:10] != "00" {
		t.Errorf("%+v", old)
	}
	for n := range p {
		if h, more := app.ReadHello(p[:n]); h != nil || !more {
			t.Fatalf("of %d bytes: %+v, %v", n, h, more)
		}
	}
	// In records of 10 bytes each.
	var parts []byte
	for rest := p[5:]; len(rest) > 0; {
		n := min(10, len(rest))
		parts = append(append(parts, 22, 3, 1, 0, byte(n)), rest[:n]...)
		rest = rest[n:]
	}
	if again, _ := app.ReadHello(parts); !reflect.DeepEqual(again, h) {
		t.Errorf("in parts: %+v", again)
	}
}

// TestJA4 is the example of the fingerprint's definition, Chrome's, with GREASE and
// in an order that does not matter.
func TestJA4(t *testing.T) {
	ciphers := []uint16{0x8a8a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035}
	signatures := []uint16{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601}
	extensions := []uint16{0x1a1a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015}
	u16 := binary.BigEndian.AppendUint16
	sized := func(p []byte) []byte { return append(u16(nil, uint16(len(p))), p...) }
	pack := func(w []uint16) (p []byte) {
		for _, v := range w {
			p = u16(p, v)
		}
		return p
	}
	data := map[uint16][]byte{
		0:  sized(append([]byte{0}, sized([]byte("example.com"))...)),
		16: sized([]byte("\x02h2\x08http/1.1")),
		13: sized(pack(signatures)),
		43: append([]byte{6}, pack([]uint16{0x7a7a, 0x0304, 0x0303})...),
	}
	var ext []byte
	for _, k := range extensions {
		ext = append(u16(ext, k), sized(data[k])...)
	}
	body := append([]byte{3, 3}, make([]byte, 33)...)
	body = append(body, sized(pack(ciphers))...)
	body = append(body, 1, 0)
	body = append(body, sized(ext)...)
	message := append([]byte{1, 0}, sized(body)...)
	h, _ := app.ReadHello(append([]byte{22, 3, 1}, sized(message)...))
	if h == nil || h.JA4 != "t13d1516h2_8daaf6152771_e5627efa2ab1" {
		t.Errorf("%+v", h)
	}
}

func TestRecognise(t *testing.T) {
	for want, c := range map[app.Protocol]struct {
		transport uint8
		side      int
		p         string
	}{
		"ssh": {packet.TCP, 1, "SSH-2.0-OpenSSH_9.2p1\r\n"}, "http": {packet.TCP, 0, "GET / HTTP/1.1\r\n"},
		"tls": {packet.TCP, 0, string(hello(t, &tls.Config{ServerName: "x"}))}, "redis": {packet.TCP, 0, "*1\r\n$4\r\nPING\r\n"},
		"dns": {packet.UDP, 0, string(question(t, "a.", dnsmessage.TypeA))}, "vnc": {packet.TCP, 1, "RFB 003.008\n"},
		"stratum": {packet.TCP, 0, `{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}` + "\n"},
		"smb":     {packet.TCP, 0, "\x00\x00\x00\x90\xfeSMB@\x00"}, "mysql": {packet.TCP, 1, "\x4a\x00\x00\x00\x0a8.0.36\x00"},
		"postgresql": {packet.TCP, 0, "\x00\x00\x00\x08\x04\xd2\x16\x2f"}, "socks": {packet.TCP, 0, "\x05\x01\x00"},
	} {
		got, v := app.Recognise(c.transport, c.side, []byte(c.p))
		if got != want || v != app.Yes {
			t.Errorf("%s is recognised as %q, %v", want, got, v)
		}
		if c.transport == packet.TCP {
			for n := range len(c.p) {
				if got, v := app.Recognise(c.transport, c.side, []byte(c.p[:n])); v == app.No || v == app.Yes && got != want {
					t.Errorf("%s, %d bytes: %q %v", want, n, got, v)
					break
				}
			}
		}
	}
	for _, p := range []string{strings.Repeat("some words of nobody's protocol ", 10), strings.Repeat("\x00", 300)} {
		if got, v := app.Recognise(packet.TCP, 0, []byte(p)); v != app.No {
			t.Errorf("%.20q is recognised as %q, %v", p, got, v)
		}
	}
}

func TestMisplaced(t *testing.T) {
	for _, c := range []struct {
		p    app.Protocol
		port uint16
		want bool
	}{
		{"ssh", 22, false}, {"ssh", 443, true}, {"ssh", 31337, true}, {"http", 80, false}, {"http", 9090, false}, {"http", 22, true},
		{"tls", 53, true}, {"tls", 9443, false}, {"tls", 25, false}, {"dns", 53, false}, {"dns", 4444, true}, {"http", 443, true}, {"", 22, false}, {"stratum", 3333, true},
	} {
		if got := app.Misplaced(c.p, c.port); got != c.want {
			t.Errorf("%s at %d: %v", c.p, c.port, got)
		}
	}
}

func TestBanner(t *testing.T) {
	for in, want := range map[string]string{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\nmore": "SSH-2.0-OpenSSH_9.2p1 Debian-2", "SSH-2.0-x": "", "HTTP/1.1\n": "", "SSH-2.0-\x1b[31m\n": "SSH-2.0-?[31m",
	} {
		if got := app.Banner([]byte(in)); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
