package proto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

// peer is a connection from which the bytes of an attacker come.
type peer struct {
	io.Reader
	written bytes.Buffer // by one writer at a time, under Conn's lock
	closed  atomic.Bool
}

func (p *peer) Write(b []byte) (int, error) {
	if p.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	return p.written.Write(b)
}

func (p *peer) Close() error {
	p.closed.Store(true)
	return nil
}

// FuzzConn serves a peer that sends anything: handlers in flight stay below the
// limit, Serve ends, and what was answered is frames of JSON.
func FuzzConn(f *testing.F) {
	frame := func(texts ...string) []byte {
		var b bytes.Buffer
		for _, t := range texts {
			if err := WriteFrame(&b, []byte(t)); err != nil {
				f.Fatal(err)
			}
		}
		return b.Bytes()
	}
	f.Add(frame(`{"id":1,"method":"info"}`, `{"method":"exited","body":{"id":3}}`, `{"id":7}`))
	f.Add(frame(`{"id":1,"method":"info"}`)[:9])
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	const limit = 2
	f.Fuzz(func(t *testing.T, sent []byte) {
		p := &peer{Reader: iotest.HalfReader(bytes.NewReader(sent))}
		var busy atomic.Int32
		c := NewConn(p, limit, func(_ context.Context, method string, body json.RawMessage) (any, error) {
			if n := busy.Add(1); n > limit {
				t.Errorf("%d handlers at once, limit %d", n, limit)
			}
			defer busy.Add(-1)
			if method == "fail" {
				return nil, Errorf(CodeInternal, "asked to")
			}
			return body, nil
		})
		_ = c.Serve(t.Context()) // any error will do
		if busy.Load() != 0 {
			t.Error("Serve returned before its handlers")
		}
		if err := c.Call(t.Context(), "late", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a call after the end: %v", err)
		}
		for r := &p.written; r.Len() > 0; {
			reply, err := ReadFrame(r)
			if err != nil || !json.Valid(reply) {
				t.Fatalf("answered %q, %v", reply, err)
			}
		}
	})
}

// FuzzOpening reads what a stranger begins a connection with.
func FuzzOpening(f *testing.F) {
	var b bytes.Buffer
	if err := WritePreamble(&b, Preamble{Role: Stdout, Token: Token{1, 2, 3}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	if err := Greet(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(nil), &b}, Hello{Kernel: "6.12"}); err == nil {
		f.Fatal("greeted nobody")
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		p, err := ReadPreamble(r)
		if err != nil {
			return
		}
		if p.Role >= roles {
			t.Fatalf("role %d", p.Role)
		}
		var again bytes.Buffer
		if err := WritePreamble(&again, p); err != nil || !bytes.Equal(again.Bytes(), sent[:PreambleSize]) {
			t.Errorf("% x reads as %+v, which is % x", sent[:PreambleSize], p, again.Bytes())
		}
		hello, err := Welcome(struct {
			io.Reader
			io.Writer
		}{r, io.Discard})
		if err == nil && hello.Version != Version {
			t.Errorf("welcomed version %d", hello.Version)
		}
	})
}
