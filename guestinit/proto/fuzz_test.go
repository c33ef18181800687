package proto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// hostile is a connection that has said all that it will and takes anything.
type hostile struct{ io.Reader }

func (hostile) Write(p []byte) (int, error) { return len(p), nil }
func (hostile) Close() error                { return nil }

func frames(messages ...string) []byte {
	var b bytes.Buffer
	for _, m := range messages {
		WriteFrame(&b, []byte(m))
	}
	return b.Bytes()
}

// FuzzConn feeds an end whatever bytes: it must come back, having called the
// handler at most once a frame, and never with a reply's method.
func FuzzConn(f *testing.F) {
	f.Add(frames(`{"id":1,"method":"start","body":{"id":1}}`))
	f.Add(frames(`{"method":"exited","body":{"id":1,"status":{"code":7}}}`, `{"id":1}`, `{"id":2,"error":{"code":"busy"}}`))
	f.Add(frames(`{"id":18446744073709551615,"method":"x"}`, `{}`, `null`))
	f.Add(frames(`{"id":1,"method":"x"}`, `{"id":1,"off":true}`, `{"off":true,"method":"y"}`))
	f.Add(append(frames(`{"id":1,"method":"x"}`), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		called := make(chan string, len(b)+1)
		c := NewConn(hostile{bytes.NewReader(b)}, 2, func(_ context.Context, method string, _ json.RawMessage) (any, error) {
			called <- method
			return method, nil
		})
		c.Serve(t.Context())
		close(called)
		n := 0
		for method := range called {
			if n++; method == "" {
				t.Error("the handler got a reply")
			}
		}
		if most := len(b) / (frameHeader + 2); n > most {
			t.Errorf("%d calls in %d bytes", n, len(b))
		}
	})
}

// FuzzOpening feeds the host's side of the opening whatever bytes. What it
// accepts, it accepts again when written by our own side.
func FuzzOpening(f *testing.F) {
	var b bytes.Buffer
	WritePreamble(&b, Preamble{Role: Stdout, Token: Token{1, 2, 3}})
	f.Add(b.Bytes())
	b.Reset()
	WritePreamble(&b, Preamble{})
	b.Write(frames(`{"version":1,"kernel":"6.12","arch":"amd64","uptime_ns":5,"warnings":["a"]}`))
	f.Add(b.Bytes())
	f.Add(frames(`{"version":2}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		p, err := ReadPreamble(r)
		if err != nil {
			return
		}
		var b bytes.Buffer
		WritePreamble(&b, p)
		if again, err := ReadPreamble(&b); err != nil || again != p {
			t.Errorf("%+v came back as %+v, error %v", p, again, err)
		}
		hello, err := Welcome(struct {
			io.Reader
			io.Writer
		}{r, io.Discard})
		if err != nil {
			return
		}
		if hello.Version != Version {
			t.Errorf("version %d accepted", hello.Version)
		}
	})
}

// FuzzReadFrame holds that a frame is as long as it says, and bounded.
func FuzzReadFrame(f *testing.F) {
	f.Add(frames("a", "bc"))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			before := r.Len()
			p, err := ReadFrame(r)
			if err != nil {
				if errors.Is(err, io.EOF) && before != 0 {
					t.Errorf("io.EOF with %d bytes left", before)
				}
				return
			}
			if used := before - r.Len(); used != frameHeader+len(p) || len(p) > MaxFrame {
				t.Errorf("a frame of %d bytes took %d", len(p), used)
			}
		}
	})
}
