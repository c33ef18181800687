package link

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// pair connects two ends until the test ends.
func pair(t *testing.T, here, there Handler) (*Conn, *Conn) {
	t.Helper()
	a, b := net.Pipe()
	x, y := NewConn(a, here), NewConn(b, there)
	served := make(chan error, 2)
	for _, c := range []*Conn{x, y} {
		go func() { served <- c.Serve(context.Background()) }()
	}
	t.Cleanup(func() {
		a.Close()
		<-served
		<-served
	})
	return x, y
}

// Errors are on the other side what they were on this one.
func TestErrors(t *testing.T) {
	var give error
	c, _ := pair(t, nil, func(context.Context, string, json.RawMessage) (any, error) { return nil, give })
	ask := func(err error) error {
		give = err
		return c.Call(t.Context(), Show, nil, nil)
	}
	for _, kind := range []error{services.ErrUnknown, services.ErrState, services.ErrClosed} {
		if got := ask(fmt.Errorf("%w: web", kind)); !errors.Is(got, kind) || got.Error() != kind.Error()+": web" {
			t.Errorf("%v came as %v", kind, got)
		}
	}
	refusal := &verify.Refusal{Resource: "disk /a", Wanted: 1, Holder: "b"}
	if r, ok := errors.AsType[*verify.Refusal](ask(fmt.Errorf("b: %w", refusal))); !ok || *r != *refusal {
		t.Errorf("%+v", r)
	}
	denial := &verify.Denial{Request: "ann may not", Policies: []string{"p"}}
	if d, ok := errors.AsType[*verify.Denial](ask(denial)); !ok || cmp.Diff(denial, d) != "" {
		t.Errorf("%+v", d)
	}
	if e, ok := errors.AsType[*proto.Error](ask(proto.Errorf(proto.CodeNotFound, "no such program"))); !ok || e.Code != proto.CodeNotFound {
		t.Errorf("%+v", e)
	}
	got := ask(errors.New("first\n\x1b[2Jsecond" + strings.Repeat("x", 2*maxText))).Error()
	if !strings.HasPrefix(got, "first\n[2Jsecondx") || len(got) > maxText {
		t.Errorf("%.40q, %d bytes", got, len(got))
	}
}

func TestAbridged(t *testing.T) {
	long := strings.Repeat("x", 4096)
	d := declaration.Service{Name: "a", Command: []string{"sh", "-c", long}, Env: map[string]string{"KEY": "secret"}, Health: &declaration.Health{Command: []string{"test", long}}}
	d.Disks = []string{"/a"}
	d.OnDemand = &declaration.OnDemand{Idle: 1, Sockets: []string{"/secret.sock:80"}}
	got := Abridged(d)
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	if text, err := json.Marshal(got); err != nil || strings.Contains(string(text), "secret") || len(text) > 512 {
		t.Errorf("%s, %v", text, err)
	}
	if len(d.Command) != 3 || len(d.Health.Command) != 2 || d.Disks == nil || len(d.OnDemand.Sockets) != 1 || got.OnDemand.Idle != 1 {
		t.Errorf("the declaration itself was changed: %+v", d)
	}
}

// Only the two that were made for each other get to speak.
func TestCredentials(t *testing.T) {
	host, supervisor, err := NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	text, err := supervisor.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if supervisor, err = DecodeCredential(text); err != nil {
		t.Fatal(err)
	}
	forged := stranger
	forged.Peer, forged.Certificate = supervisor.Peer, supervisor.Certificate // without the key
	own := supervisor
	own.Peer = stranger.Peer
	bare := supervisor.Config()
	bare.Certificates = nil
	old := supervisor.Config()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, tt := range map[string]struct {
		client *tls.Config
		ok     bool
	}{
		"the one":                      {supervisor.Config(), true},
		"a stranger":                   {stranger.Config(), false},
		"its certificate, not its key": {forged.Config(), false},
		"one that wants another host":  {own.Config(), false},
		"one that shows nothing":       {bare, false},
		"one of before":                {old, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			client, server := tls.Client(b, tt.client), tls.Server(a, host.Config())
			there := make(chan error, 1)
			go func() {
				err := client.HandshakeContext(t.Context())
				if err == nil {
					_, err = client.Read(make([]byte, 1)) // where a server says no last
				} else {
					b.Close()
				}
				there <- err
			}()
			err := server.HandshakeContext(t.Context())
			if err == nil {
				_, err = server.Write([]byte{1})
			}
			a.Close()
			if other := <-there; (err == nil && other == nil) != tt.ok {
				t.Errorf("host: %v, supervisor: %v", err, other)
			}
		})
	}
	for _, bad := range []string{"", "{}", `{"key":"AAAA"}`, "[1"} {
		if _, err := DecodeCredential([]byte(bad)); err == nil {
			t.Errorf("%q is a credential", bad)
		}
	}
}

// BenchmarkCall is a question and its answer under TLS, without a machine between.
func BenchmarkCall(b *testing.B) {
	host, supervisor, err := NewCredentials()
	if err != nil {
		b.Fatal(err)
	}
	x, y := net.Pipe()
	defer x.Close()
	handler := func(context.Context, string, json.RawMessage) (any, error) { return nil, nil }
	here, there := NewConn(tls.Server(x, host.Config()), handler), NewConn(tls.Client(y, supervisor.Config()), handler)
	go here.Serve(context.Background())
	go there.Serve(context.Background())
	r := services.Record{Status: services.Status{Name: "a", State: services.Running, Since: time.Now()}}
	for b.Loop() {
		if err := there.Call(context.Background(), Changed, r, nil); err != nil {
			b.Fatal(err)
		}
	}
}
