package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

// TestCopyWhileRulesChange copies from one guest to another, as TCP and as a request that
// the gateway reads, while the rules change a thousand times and more and still allow it. All arrives, in
// its order.
func TestCopyWhileRulesChange(t *testing.T) {
	s := lan.New(lan.Config{})
	newGateway(t, s)
	web, db := plug(t, s, "web", 2), plug(t, s, "db", 3)
	tcp := lan.Rule{From: "web", To: "db", Proto: packet.TCP, First: 5432, Last: 5432}
	put := lan.Rule{From: "web", To: "db", Proto: packet.TCP, First: 80, Last: 80, HTTP: &request.HTTP{Methods: []string{"PUT"}, Paths: []string{"/copy"}}}
	change := func(n int) {
		other := lan.Rule{From: "db", To: "web", Proto: packet.UDP, First: uint16(1 + n%1000), Last: 2000}
		if err := s.SetRules([]lan.Rule{other, put, tcp}[n%2:]); err != nil { // with the other rule and without
			t.Error(err)
		}
	}
	change(0)
	const size = 8 << 20
	content := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
	want := sha256.New()
	if _, err := io.Copy(want, content()); err != nil {
		t.Fatal(err)
	}
	// changing changes the rules until something is done, and a thousand times at least.
	changing := func(what string, do func() (string, error)) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			sum, err := do()
			if err != nil || sum != fmt.Sprintf("%x", want.Sum(nil)) {
				t.Errorf("%s: %s, %v", what, sum, err)
			}
		}()
		over := false
		for n := 0; n < 1000 || !over; n++ {
			change(n)
			select {
			case <-done:
				over = true
			default:
			}
		}
	}

	l, err := gonet.ListenTCP(db.stack, tcpip.FullAddress{NIC: nic, Addr: toAddress(db.addrs[0]), Port: 5432}, number(db.addrs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, content())
	}()
	changing("TCP", func() (string, error) {
		c, err := web.dial("10.7.0.3:5432")
		if err != nil {
			return "", err
		}
		defer c.Close()
		got := sha256.New()
		_, err = io.Copy(got, c)
		return fmt.Sprintf("%x", got.Sum(nil)), err
	})

	db.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.New()
		_, err := io.Copy(got, r.Body)
		fmt.Fprintf(w, "%x %v", got.Sum(nil), err)
	}))
	changing("HTTP", func() (string, error) {
		r, err := http.NewRequest(http.MethodPut, "http://db/copy", content())
		if err != nil {
			return "", err
		}
		r.ContentLength = -1 // in chunks
		client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return web.dial("10.7.0.3:80") }}}
		defer client.CloseIdleConnections()
		answer, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		var sum, how string
		fmt.Sscan(string(b), &sum, &how)
		if how != "<nil>" {
			sum = string(b)
		}
		return sum, err
	})
}
