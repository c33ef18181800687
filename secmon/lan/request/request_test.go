package request

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const get = "GET /v1/x HTTP/1.1\r\nHost: api\r\n\r\n"

// relay is what comes through of what a client says, and what was asked.
func relay(say string, allowed func(*Head) bool) (through string, heads []Head, err error) {
	var out bytes.Buffer
	err = Relay(&out, strings.NewReader(say), func(h *Head) bool {
		heads = append(heads, *h)
		return allowed(h)
	})
	return out.String(), heads, err
}

func all(*Head) bool { return true }

func TestWhatPasses(t *testing.T) {
	for _, say := range []string{
		get,
		get + get,
		"GET / HTTP/1.0\r\n\r\n",
		"POST /a%20b?x=/../y HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\nabc" + get,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\nX-Sum: 1\r\n\r\n" + get,
		"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: [fd00::1]:80\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: \tvalue with \xe4 and \"quotes\"\r\n\r\n",
	} {
		if got, _, err := relay(say, all); got != say || err != nil {
			t.Errorf("%q: %q, %v", say, got, err)
		}
	}
}

// TestWhatIsRefused is what can be read in more than one way, or in none. Before it
// comes a request that passes.
func TestWhatIsRefused(t *testing.T) {
	head := func(fields ...string) string {
		return "POST / HTTP/1.1\r\nHost: a\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
	}
	for _, c := range []struct {
		why error
		say string
	}{
		{errLength, head("Content-Length: 1", "Content-Length: 2")},
		{errLength, head("Content-Length: 1", "Content-Length: 1")},
		{errLength, head("Content-Length: 1, 1")},
		{errLength, head("Content-Length: +1")},
		{errLength, head("Content-Length: 0x10")},
		{errLength, head("Content-Length:")},
		{errLength, head("Content-Length: 99999999999999999999")},
		{errLength, head("Content-Length: 3", "Transfer-Encoding: chunked")},
		{errLength, head("Transfer-Encoding: chunked", "Content-Length: 3")},
		{errLength, head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")},
		{errLength, head("Transfer-Encoding: gzip, chunked")},
		{errLength, head("Transfer-Encoding: xchunked")},
		{errField, head("Transfer-Encoding: \x0bchunked")},
		{errField, head("Transfer-Encoding : chunked")},
		{errField, head("Content-Length: 1", " 2")},
		{errField, head("X: a", "\tfolded")},
		{errField, head("no colon")},
		{errField, head(": no name")},
		{errField, head("X: a\x01b")},
		{errLine, head("X: a\rContent-Length: 7")},
		{errLine, head("X: a\nContent-Length: 7")},
		{errLine, head("X: a\x00b")},
		{errLine, "GET / HTTP/1.1\nHost: a\n\n"},
		{errLine, "GET / HTTP/1.1\r\nHost: a\r\n\n"},
		{errHost, head("Host: b")},
		{errHost, "GET / HTTP/1.1\r\n\r\n"},
		{errHost, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errHost, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
		{errHost, "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"},
		{errHead, "\r\n" + get},
		{errHead, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errHead, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
		{errHead, "GET /\r\n\r\n"},
		{errHead, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{errConnect, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /v1/../x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /v1/%2e%2E/x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /v1/%252e%252e/x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /v1%2fx HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /v1\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET //x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /x;y HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /x%00 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errPath, "GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errLong, "GET /" + strings.Repeat("x", MaxHead) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
		{errLong, head(strings.Repeat("X: y\r\n", MaxHead/6+1) + "Z: z")},
	} {
		got, heads, err := relay(get+c.say, all)
		refused, ok := errors.AsType[*Refusal](err)
		if got != get || len(heads) != 1 || !ok || refused.First || !errors.Is(err, c.why) {
			t.Errorf("%.80q: %v, want %v; through came %.200q", c.say, err, c.why, got)
		}
	}
	for _, chunks := range []string{"0x3\r\nabc\r\n0\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n", "3;x=y\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "0\r\nContent-Length: 3\r\n\r\n", "0\r\n folded\r\n\r\n", "\r\n"} {
		got, _, err := relay(head("Transfer-Encoding: chunked")+chunks+get, all)
		if _, ok := errors.AsType[*Refusal](err); !ok || strings.Contains(got, "/v1/x") {
			t.Errorf("chunks %q: %v, %q", chunks, err, got)
		}
	}
}

func TestRules(t *testing.T) {
	r := HTTP{Hosts: []string{"api", "*.Example.org"}, Methods: []string{"GET"}, Paths: []string{"/v1/*", "/health"}}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, host, path string
		want               bool
	}{
		{"GET", "API", "/v1/", true}, {"GET", "a.example.ORG.", "/health", true}, {"GET", "example.org", "/health", false}, {"GET", "api", "/healthy", false},
		{"GET", "api", "/v1", false}, {"get", "api", "/v1/x", false}, {"GET", "xapi", "/v1/x", false}, {"GET", "", "/v1/x", false},
	} {
		if got := r.Allows(&Head{Method: c.method, Host: c.host, Path: c.path}); got != c.want {
			t.Errorf("%v: %v", c, got)
		}
	}
	if !(&HTTP{}).Allows(&Head{Method: "X", Path: "/"}) {
		t.Error("a rule that says nothing does not allow everything")
	}
	for _, bad := range []HTTP{{Hosts: []string{"a:80"}}, {Hosts: []string{"*"}}, {Methods: []string{"get"}}, {Paths: []string{"v1"}}, {Paths: []string{"/*/x"}}, {Paths: []string{"/a/../b"}}, {Paths: []string{"*"}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
	for _, bad := range []DNS{{}, {Names: []string{"."}}, {Names: []string{"a.*"}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

// FuzzRelay holds what comes through against net/http.
func FuzzRelay(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(agrees)
}

var seeds = []string{
	get + get,
	"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\nX-Sum: 1\r\n\r\n" + get,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + get,
	"POST / HTTP/1.0\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd" + get,
}

// TestAgrees is FuzzRelay on requests of which some bytes are others.
func TestAgrees(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	bytes := []byte("\r\n :,;0123acTehGP/.%\x00\t")
	for range 20000 {
		s := []byte(seeds[random.IntN(len(seeds))])
		for range random.IntN(4) {
			s[random.IntN(len(s))] = bytes[random.IntN(len(bytes))]
		}
		agrees(t, s)
	}
}

// agrees reads with net/http what comes through of what a client says: the same requests
// as were allowed. One that is refused has nothing through of what it says then.
func agrees(t *testing.T, say []byte) {
	var passed []string
	through, heads, err := relay(string(say), func(h *Head) bool {
		ok := h.Path != "/no"
		if ok {
			passed = append(passed, fmt.Sprintf("%s %s", h.Method, h.Path))
		}
		return ok
	})
	if !strings.HasPrefix(string(say), through) {
		t.Fatalf("%q came through of %q", through, say)
	}
	if err == nil && through != string(say) {
		t.Fatalf("%q of %q, without an error", through, say)
	}
	in := bufio.NewReader(strings.NewReader(through))
	for i, want := range passed {
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("request %d of %q: %v", i, through, err)
		}
		if got := fmt.Sprintf("%s %s", r.Method, r.URL.Path); got != want {
			t.Fatalf("%q is read as %q here, as %q by net/http", through, want, got)
		}
		if h := heads[i].Host; h != "" && !strings.HasPrefix(strings.Trim(r.Host, "[]"), h) {
			t.Fatalf("host %q is %q for net/http", h, r.Host)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil && i < len(passed)-1 {
			t.Fatalf("the body of request %d of %q: %v", i, through, err)
		}
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		t.Fatalf("net/http reads %d requests of %q, and %q is left", len(passed), through, rest)
	}
}

func TestQuestion(t *testing.T) {
	pack := func(change func(*dnsmessage.Message)) []byte {
		m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		change(&m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if name, err := Question(pack(func(*dnsmessage.Message) {})); name != "a.example.org." || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	for what, b := range map[string][]byte{
		"nothing":   nil,
		"an answer": pack(func(m *dnsmessage.Message) { m.Response = true }),
		"an update": pack(func(m *dnsmessage.Message) { m.OpCode = 5 }),
		"two":       pack(func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }),
		"none":      pack(func(m *dnsmessage.Message) { m.Questions = nil }),
		"with an answer in it": pack(func(m *dnsmessage.Message) {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{}}}
		}),
		"a long one": append(pack(func(*dnsmessage.Message) {}), make([]byte, MaxQuestion)...),
	} {
		if name, err := Question(b); err == nil {
			t.Errorf("%s asks for %q", what, name)
		}
	}
}
