package hosting

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"testing"

	"warder/guestinit/proto"
	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// hostile is a supervisor that sends whatever bytes, and hears nothing.
type hostile struct{ io.Reader }

func (hostile) Write(p []byte) (int, error) { return len(p), nil }
func (hostile) Close() error                { return nil }

func frames(messages ...string) []byte {
	var b bytes.Buffer
	for _, m := range messages {
		proto.WriteFrame(&b, []byte(m))
	}
	return b.Bytes()
}

// FuzzOrders has a supervisor order whatever comes to its mind of a host with a
// service that somebody has started, and one that nobody has. Nobody's has no VM
// then, the other one at most, nothing is in the journal that was not asked for, and
// all can be ended.
func FuzzOrders(f *testing.F) {
	started := `{"id":1,"method":"started","body":{"name":"a","request":1,"record":{"status":{"name":"a","state":"starting","starts":1}}}}`
	f.Add(frames(started, `{"id":2,"method":"boot","body":{"name":"a","start":1}}`, `{"id":3,"method":"run","body":{"name":"a","start":1}}`,
		`{"id":4,"method":"exited","body":{"name":"a","start":1}}`, `{"id":5,"method":"destroy","body":{"name":"a","start":1,"grace_ns":-1,"patience_ns":9223372036854775807}}`))
	f.Add(frames(`{"id":1,"method":"boot","body":{"name":"b","start":1}}`, `{"id":2,"method":"started","body":{"name":"b","request":1}}`, `{"id":3,"method":"changed","body":{"status":{"name":"b","state":"running"}}}`))
	f.Add(frames(started, `{"id":2,"method":"boot","body":{"name":"a","start":7}}`, `{"id":3,"method":"boot","body":{"name":"a","start":8}}`, `{"id":2,"off":true}`))
	f.Add(frames(`{"id":1,"method":"declared","body":{"name":"c","request":2}}`, `{"id":2,"method":"removed","body":{"name":"a","request":1}}`, `{"id":3,"method":"usage"}`, `{"id":4,"method":"over","body":{"name":"a"}}`))
	f.Add(frames(`{"id":1,"method":"check","body":{"name":"a","start":-1}}`, `{"id":1,"method":"claim","body":{"name":"../a"}}`, `{"id":9,"method":"changed","body":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fake := newFakeHost()
		j := &fakeJournal{running: make(map[string]string), declared: make(map[string][]netip.Addr)}
		h := New(fake, j, Config{Most: verify.Capacity{Holders: 1}})
		for _, d := range []string{"a", "b"} {
			if err := h.Declare(runs(d, "sleep 1h")); err != nil {
				t.Fatal(err)
			}
		}
		_, end := h.begin(&request{kind: link.Start, name: "a", by: "me"})
		link.NewConn(hostile{bytes.NewReader(b)}, h.handle).Serve(t.Context())
		end()
		if len(j.declared) != 0 || len(j.running) > 1 || len(j.running) == 1 && j.running["a"] != "me" {
			t.Errorf("the journal has %v, %v", j.declared, j.running)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.Close(ctx)
		if fake.live != 0 || fake.count("c") != 0 || len(h.most.Balance().Grants) != 0 || len(h.services) != 2 {
			t.Errorf("%d VMs are left, %+v", fake.live, h.most.Balance())
		}
		if n := fake.count("b"); n > 0 && h.services["b"].record == nil {
			t.Errorf("%d VMs of what nobody has started", n)
		}
	})
}

// A supervisor that was subverted has nothing done that no request asked for.
func TestOrdersOfTheSubverted(t *testing.T) {
	h := New(newFakeHost(), nil, Config{})
	if err := h.Declare(runs("a", "sleep 1h")); err != nil {
		t.Fatal(err)
	}
	number, end := h.begin(&request{kind: link.Start, name: "a", by: "me"})
	defer end()
	start := services.Record{Status: services.Status{Name: "a", State: services.Starting, Starts: 1, By: "somebody else"}}
	for name, order := range map[string]func() (any, error){
		"a VM that nobody asked for":       func() (any, error) { return h.boot(t.Context(), link.VM{Name: "a", Start: 1}) },
		"a VM of what is not declared":     func() (any, error) { return h.boot(t.Context(), link.VM{Name: "x", Start: 1}) },
		"a start by no request":            func() (any, error) { return h.started(link.Decided{Name: "a", Request: number + 1, Record: &start}) },
		"a start by another's request":     func() (any, error) { return h.removed(link.Decided{Name: "a", Request: number}) },
		"a declaration by a start":         func() (any, error) { return h.declared(link.Decided{Name: "a", Request: number}) },
		"a start without a record":         func() (any, error) { return h.started(link.Decided{Name: "a", Request: number}) },
		"a record of what is not declared": func() (any, error) { return h.recorded(services.Record{Status: services.Status{Name: "x"}}) },
	} {
		if _, err := order(); err == nil {
			t.Errorf("%s: done", name)
		}
	}
	if _, err := h.started(link.Decided{Name: "a", Request: number, Record: &start}); err != nil {
		t.Error(err)
	}
	if s := h.services["a"]; s.record.Status.By != "me" {
		t.Errorf("started by %q", s.record.Status.By)
	}
	if _, err := h.started(link.Decided{Name: "a", Request: number, Record: &start}); err == nil {
		t.Error("one request started it twice")
	}
	if b, err := h.boot(t.Context(), link.VM{Name: "a", Start: 1}); err != nil || !b.There {
		t.Error(err)
	}
	if _, err := h.boot(t.Context(), link.VM{Name: "a", Start: 2}); err == nil {
		t.Error("a second VM of one service")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Close(ctx)
}
