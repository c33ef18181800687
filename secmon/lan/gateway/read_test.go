package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// server answers requests of HTTP in a guest, and notes them.
type server struct {
	mu  sync.Mutex
	got []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	s.got = append(s.got, fmt.Sprintf("%s %s%s %d %s %v", r.Method, r.Host, r.URL.Path, len(body), strings.Split(r.RemoteAddr, ":")[0], err))
	s.mu.Unlock()
	fmt.Fprintf(w, "you asked for %s", r.URL.Path)
}

func (s *server) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// serve has a guest answer at port 80 of its IPv4 address.
func (c *client) serve(t *testing.T, h http.Handler) {
	t.Helper()
	l, err := gonet.ListenTCP(c.stack, tcpip.FullAddress{NIC: nic, Addr: toAddress(c.addrs[0]), Port: 80}, number(c.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// said is what comes back to whoever says something, "reset" if nothing does.
func said(t *testing.T, conn net.Conn, what string) string {
	t.Helper()
	if _, err := io.WriteString(conn, what); err != nil {
		return "reset"
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "reset"
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return "reset"
	}
	return fmt.Sprintf("%d %s", r.StatusCode, strings.TrimSpace(string(b)))
}

// refusals are the requests that an inspector is told of.
type refusals struct {
	mu    sync.Mutex
	told  []string
	heard chan struct{} // has one for each, where there is such a channel
}

func (*refusals) Start(*lan.Flows)          {}
func (*refusals) Ended(*lan.Flow, string)   {}
func (*refusals) Inspect(frames []lan.Seen) {}

func (r *refusals) RequestRefused(x lan.RefusedRequest) {
	what := x.Name
	switch h := x.HTTP; {
	case h != nil:
		what = h.Method + " " + h.Host + h.Path
	case x.Why != nil:
		what = "unread"
	}
	to := "-"
	if x.To != nil {
		to = x.To.Name()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf("%s > %s %v: %s", x.From.Name(), to, x.Destination, what))
	if r.heard != nil {
		r.heard <- struct{}{}
	}
}

// check holds what was told since the last time against what should have been.
func (r *refusals) check(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := cmp.Diff(want, r.told); d != "" {
		t.Errorf("refused requests (-want +got):\n%s", d)
	}
	r.told = nil
}

// TestRequests has one service ask another for what it may and may not, over one
// connection and many.
func TestRequests(t *testing.T) {
	told := &refusals{}
	s := lan.New(lan.Config{Inspector: told})
	g, _ := newGateway(t, s)
	web, api := plug(t, s, "web", 2), plug(t, s, "api", 3)
	other := plug(t, s, "other", 4)
	var srv server
	api.serve(t, &srv)
	rule := lan.Rule{From: "web", To: "api", Proto: packet.TCP, First: 80, Last: 80, HTTP: &request.HTTP{Hosts: []string{"api"}, Methods: []string{"GET", "POST"}, Paths: []string{"/v1/*"}}}
	if err := s.SetRules([]lan.Rule{rule}); err != nil {
		t.Fatal(err)
	}
	const denied = "403 This request is not declared (warder)."
	keep, err := web.dial("10.7.0.3:80")
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	for _, c := range []struct{ say, want, got string }{
		{"GET /v1/a HTTP/1.1\r\nHost: api\r\n\r\n", "200 you asked for /v1/a", "GET api/v1/a 0 10.7.0.1 <nil>"},
		{"POST /v1/b HTTP/1.1\r\nHost: API:80\r\nContent-Length: 5\r\n\r\nhello", "200 you asked for /v1/b", "POST API:80/v1/b 5 10.7.0.1 <nil>"},
		{"POST /v1/c HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "200 you asked for /v1/c", "POST api/v1/c 13 10.7.0.1 <nil>"},
		{"GET /v2 HTTP/1.1\r\nHost: api\r\n\r\n", "reset", ""}, // answers may be under way
	} {
		if got := said(t, keep, c.say); got != c.want {
			t.Errorf("%q: %q, want %q", c.say, got, c.want)
		}
		if got := strings.Join(srv.take(), "; "); got != c.got {
			t.Errorf("%q: the server got %q, want %q", c.say, got, c.got)
		}
	}
	for _, c := range []struct{ say, want string }{
		{"GET /v1/x HTTP/1.1\r\nHost: api\r\n\r\n", "200 you asked for /v1/x"},
		{"GET /admin HTTP/1.1\r\nHost: api\r\n\r\n", denied},
		{"DELETE /v1/x HTTP/1.1\r\nHost: api\r\n\r\n", denied},
		{"GET /v1/x HTTP/1.1\r\nHost: elsewhere\r\n\r\n", denied},
		{"GET /v1/../admin HTTP/1.1\r\nHost: api\r\n\r\n", "reset"},
		{"SSH-2.0-x\r\n\r\n", "reset"},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 2<<14), "reset"},
		{"POST /v1/x HTTP/1.1\r\nHost: api\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "reset"},
	} {
		conn, err := web.dial("10.7.0.3:80")
		if err != nil {
			t.Fatal(err)
		}
		if got := said(t, conn, c.say); got != c.want {
			t.Errorf("%q: %q, want %q", c.say, got, c.want)
		}
		conn.Close()
		if got := srv.take(); len(got) > 0 != strings.HasPrefix(c.want, "200") {
			t.Errorf("%q: the server got %q", c.say, got)
		}
	}
	if conn, err := other.dial("10.7.0.3:80"); err == nil {
		conn.Close()
		t.Error("one that nothing is declared for opens a connection")
	}
	st := g.Stats()
	if st.RequestsRefused != 4 {
		t.Errorf("%d requests were refused", st.RequestsRefused)
	}

	const to = "web > api 10.7.0.3:80: "
	told.check(t, to+"GET api/v2", to+"GET api/admin", to+"DELETE api/v1/x", to+"GET elsewhere/v1/x", to+"unread", to+"unread", to+"unread", to+"unread")
	if _, code := web.ask("www.example.net.", dnsmessage.TypeA); code != dnsmessage.RCodeRefused {
		t.Errorf("a name outside that is not declared: %v", code)
	}
	told.check(t, "web > - 10.7.0.1:53: www.example.net")

	// The rules change under an open connection.
	conn, err := web.dial("10.7.0.3:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rule.HTTP = &request.HTTP{Paths: []string{"/v2"}}
	for _, want := range []string{"200 you asked for /v1/a", "reset"} {
		if got := said(t, conn, "GET /v1/a HTTP/1.1\r\nHost: api\r\n\r\n"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if err := s.SetRules([]lan.Rule{rule}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQuestions has one service ask another for names that it may ask for and others, over
// UDP and TCP.
func TestQuestions(t *testing.T) {
	told := &refusals{heard: make(chan struct{}, 16)}
	s := lan.New(lan.Config{Inspector: told})
	newGateway(t, s)
	web, ns := plug(t, s, "web", 2), plug(t, s, "ns", 3)
	may := &request.DNS{Names: []string{"*.example.org"}}
	if err := s.SetRules([]lan.Rule{{From: "web", To: "ns", Proto: packet.UDP, First: 53, Last: 53, DNS: may}, {From: "web", To: "ns", Proto: packet.TCP, First: 53, Last: 53, DNS: may}}); err != nil {
		t.Fatal(err)
	}
	at := tcpip.FullAddress{NIC: nic, Addr: toAddress(ns.addrs[0]), Port: 53}
	var mu sync.Mutex
	var got []string
	asked := func(b []byte) {
		name, err := request.Question(b)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(name, err))
	}
	u, err := gonet.DialUDP(ns.stack, &at, nil, number(ns.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			asked(b[:n])
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	l, err := gonet.ListenTCP(ns.stack, at, number(ns.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 2000)
		for {
			if _, err := io.ReadFull(c, b[:2]); err != nil {
				return
			}
			n := 2 + int(b[0])<<8 + int(b[1])
			if _, err := io.ReadFull(c, b[2:n]); err != nil {
				return
			}
			asked(b[2:n])
			_, _ = c.Write(b[:n])
		}
	})
	question := func(name string) []byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	conn, err := gonet.DialUDP(web.stack, nil, &at, number(ns.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range [][]byte{question("secret.example.com."), []byte("whatever this is"), question("example.org.")} {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		// One that waits for its server's address to be found is overtaken by others.
		<-told.heard
	}
	exchange(t, conn, question("a.example.org."), make([]byte, 2000))
	c, err := web.dial("10.7.0.3:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, q := range []struct {
		name string
		ok   bool
	}{{"b.example.org.", true}, {"c.example.org.", true}, {"b.example.com.", false}} {
		b := question(q.name)
		b = append([]byte{0, byte(len(b))}, b...)
		_, err := c.Write(b)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		if (err == nil) != q.ok {
			t.Errorf("%s over TCP: %v", q.name, err)
		}
		if !q.ok && errors.Is(err, io.EOF) {
			t.Errorf("%s over TCP: the connection ended as if nothing were wrong", q.name)
		}
	}
	const to = "web > ns 10.7.0.3:53: "
	told.check(t, to+"secret.example.com.", to+"unread", to+"example.org.", to+"b.example.com.")
	mu.Lock()
	defer mu.Unlock()
	if got = slices.Compact(got); fmt.Sprint(got) != "[a.example.org.<nil> b.example.org.<nil> c.example.org.<nil>]" {
		t.Errorf("the server was asked %q", got)
	}
}
