package proto

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	want := [][]byte{{1}, bytes.Repeat([]byte("x"), MaxFrame)}
	for _, p := range want {
		if err := WriteFrame(&b, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range want {
		if got, err := ReadFrame(&b); err != nil || !bytes.Equal(got, p) {
			t.Errorf("read %d bytes, error %v; wrote %d", len(got), err, len(p))
		}
	}
	if _, err := ReadFrame(&b); err != io.EOF {
		t.Errorf("between frames: %v, want io.EOF", err)
	}
}

func TestFrameErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes string
		check func(error) bool
	}{
		"empty":           {"\x00\x00\x00\x00", isSize},
		"too large":       {"\x00\x10\x00\x01", isSize},
		"huge":            {"\xff\xff\xff\xff", isSize},
		"ends in header":  {"\x00\x00", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"ends in payload": {"\x00\x00\x00\x02a", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"ends after size": {"\x00\x00\x00\x02", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
	} {
		if _, err := ReadFrame(strings.NewReader(tt.bytes)); !tt.check(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := WriteFrame(io.Discard, make([]byte, MaxFrame+1)); !isSize(err) {
		t.Errorf("written too large: error %v", err)
	}
}

func isSize(err error) bool {
	_, ok := errors.AsType[*FrameSizeError](err)
	return ok
}

func TestPreamble(t *testing.T) {
	for role := range roles {
		want := Preamble{Role: role, Token: NewToken()}
		var b bytes.Buffer
		if err := WritePreamble(&b, want); err != nil {
			t.Fatal(err)
		}
		if b.Len() != PreambleSize {
			t.Errorf("%d bytes, want %d", b.Len(), PreambleSize)
		}
		if got, err := ReadPreamble(&b); err != nil || got != want {
			t.Errorf("read %+v, error %v; wrote %+v", got, err, want)
		}
	}
	good := func() []byte {
		var b bytes.Buffer
		WritePreamble(&b, Preamble{Role: Stdin})
		return b.Bytes()
	}
	for name, change := range map[string]func([]byte){
		"magic":    func(b []byte) { b[0] = 'X' },
		"role":     func(b []byte) { b[6] = byte(roles) },
		"reserved": func(b []byte) { b[7] = 1 },
	} {
		b := good()
		change(b)
		if _, err := ReadPreamble(bytes.NewReader(b)); !errors.Is(err, ErrNotOurs) {
			t.Errorf("wrong %s: error %v", name, err)
		}
	}
	b := good()
	binary.BigEndian.PutUint16(b[4:], Version+1)
	if _, err := ReadPreamble(bytes.NewReader(b)); !isVersion(err) {
		t.Errorf("other version: error %v", err)
	}
}

func isVersion(err error) bool {
	_, ok := errors.AsType[*VersionError](err)
	return ok
}

func TestTokensDiffer(t *testing.T) {
	if a, b := NewToken(), NewToken(); a == b {
		t.Error("two tokens are the same")
	}
}

func TestHello(t *testing.T) {
	guest, host := net.Pipe()
	want := Hello{Version: Version, Kernel: "6.12", Arch: "arm64", Warnings: []string{"w"}}
	done := make(chan error, 1)
	go func() { done <- Greet(guest, Hello{Kernel: "6.12", Arch: "arm64", Warnings: []string{"w"}}) }()
	if p, err := ReadPreamble(host); err != nil || p != (Preamble{}) {
		t.Fatalf("preamble %+v, error %v", p, err)
	}
	got, err := Welcome(host)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHelloOfAnotherVersion(t *testing.T) {
	var b bytes.Buffer
	WriteFrame(&b, []byte(`{"version":99}`))
	if _, err := Welcome(&b); !isVersion(err) {
		t.Errorf("error %v", err)
	}
}

// pair connects two ends and serves both until the test ends.
func pair(t *testing.T, limit int, a, b Handler) (*Conn, *Conn) {
	t.Helper()
	x, y := net.Pipe()
	ends := [2]*Conn{NewConn(x, limit, a), NewConn(y, limit, b)}
	served := make(chan error, 2)
	for _, c := range ends {
		go func() { served <- c.Serve(context.Background()) }()
	}
	t.Cleanup(func() {
		x.Close()
		y.Close()
		for range ends {
			<-served
		}
	})
	return ends[0], ends[1]
}

func TestCalls(t *testing.T) {
	type pairOf struct{ A, B int }
	notices := make(chan string, 1)
	var back *Conn
	handler := func(ctx context.Context, method string, body json.RawMessage) (any, error) {
		switch method {
		case "add":
			var p pairOf
			if err := json.Unmarshal(body, &p); err != nil {
				return nil, err
			}
			return p.A + p.B, nil
		case "fail":
			return nil, Errorf(CodeBusy, "not now")
		case "break":
			return nil, errors.New("broken")
		case "there and back":
			var n int
			err := back.Call(ctx, "add", pairOf{20, 22}, &n)
			return n, err
		case "note":
			notices <- string(body)
			return nil, nil
		}
		return nil, Errorf(CodeUnknownMethod, "no %q", method)
	}
	a, b := pair(t, 8, handler, handler)
	back = b
	for _, c := range []*Conn{a, b} { // the same in both directions
		var n int
		if err := c.Call(t.Context(), "add", pairOf{1, 2}, &n); err != nil || n != 3 {
			t.Errorf("1 + 2 = %d, error %v", n, err)
		}
		for method, want := range map[string]Error{
			"fail":    {Code: CodeBusy, Message: "not now"},
			"break":   {Code: CodeInternal, Message: "broken"},
			"nothing": {Code: CodeUnknownMethod, Message: `no "nothing"`},
		} {
			err := c.Call(t.Context(), method, nil, nil)
			if e, ok := errors.AsType[*Error](err); !ok || *e != want {
				t.Errorf("%s: error %v, want %v", method, err, want)
			}
		}
		if err := c.Notify("note", "x"); err != nil || <-notices != `"x"` {
			t.Errorf("notice: error %v", err)
		}
	}
	var n int
	if err := a.Call(t.Context(), "there and back", nil, &n); err != nil || n != 42 {
		t.Errorf("there and back: %d, error %v", n, err)
	}
	if err := a.Call(t.Context(), "add", strings.Repeat("x", MaxFrame), nil); !isSize(err) {
		t.Errorf("a call that is too large: error %v", err)
	}
	if err := a.Call(t.Context(), "add", pairOf{1, 2}, &n); err != nil {
		t.Errorf("and the next: error %v", err)
	}
}

func TestTooManyCalls(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	a, _ := pair(t, 1, nil, func(context.Context, string, json.RawMessage) (any, error) {
		entered <- true
		<-leave
		return "late", nil
	})
	first := make(chan error, 1)
	go func() { first <- a.Call(context.Background(), "wait", nil, nil) }()
	<-entered
	err := a.Call(t.Context(), "wait", nil, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeBusy {
		t.Errorf("error %v, want %s", err, CodeBusy)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Errorf("the call before: %v", err)
	}
}

func TestEndOfConnection(t *testing.T) {
	cancelled := make(chan error, 1)
	entered, leave := make(chan bool), make(chan bool)
	x, y := net.Pipe()
	a := NewConn(x, 1, nil)
	b := NewConn(y, 1, func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
		close(entered)
		<-ctx.Done()
		cancelled <- ctx.Err()
		<-leave // a reply now could still get through
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 2)
	go func() { served <- a.Serve(context.Background()) }()
	go func() { served <- b.Serve(ctx) }()
	called := make(chan error, 1)
	go func() { called <- a.Call(context.Background(), "wait", nil, nil) }()
	<-entered
	cancel()
	if err := <-called; !errors.Is(err, ErrClosed) {
		t.Errorf("the call: %v, want %v", err, ErrClosed)
	}
	close(leave)
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context: %v", err)
	}
	<-served
	<-served
	if err := a.Call(t.Context(), "again", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a call after the end: %v", err)
	}
}

// TestLastNotices has a peer give notices and hang up at once: who waits for
// Done has been told of all of them.
func TestLastNotices(t *testing.T) {
	var frames bytes.Buffer
	const all = 8
	for range all {
		if err := WriteFrame(&frames, []byte(`{"method":"exited","body":{}}`)); err != nil {
			t.Fatal(err)
		}
	}
	var told atomic.Int32
	c := NewConn(readCloser{&frames}, 2, func(context.Context, string, json.RawMessage) (any, error) {
		runtime.Gosched() // the reader is as fast as it can be
		told.Add(1)
		return nil, nil
	})
	go c.Serve(t.Context())
	<-c.Done()
	if n := told.Load(); n != all {
		t.Errorf("the connection was done after %d of %d notices", n, all)
	}
}

type readCloser struct{ io.ReadWriter }

func (readCloser) Close() error { return nil }

func TestExitCode(t *testing.T) {
	for want, s := range map[int]Status{0: {}, 7: {Code: 7}, 143: {Signal: 15}, 137: {Signal: 9, OutOfMemory: true}} {
		if got := s.ExitCode(); got != want {
			t.Errorf("%+v: %d, want %d", s, got, want)
		}
	}
}

func TestErrorIsPrintable(t *testing.T) {
	e := Error{Message: "a\x1b[2J\nb\xff\u202e" + strings.Repeat("x", 1<<20)}
	if got := e.Error(); !strings.HasPrefix(got, "a[2J bxxx") || len(got) > maxPrintable {
		t.Errorf("%d bytes, %.40q", len(got), got)
	}
}

// A call that nobody waits for any more ends the context of its handler, and no
// other's.
func TestCallOff(t *testing.T) {
	began, cause := make(chan string), make(chan error, 1)
	a, _ := pair(t, 2, nil, func(ctx context.Context, method string, _ json.RawMessage) (any, error) {
		began <- method
		if method == "other" {
			<-ctx.Done()
			return nil, nil
		}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	var others sync.WaitGroup
	others.Go(func() {
		if err := a.Call(t.Context(), "other", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("the other call: %v", err)
		}
	})
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if err := a.Call(ctx, "slow", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := <-cause; !errors.Is(err, ErrCalledOff) {
		t.Errorf("the handler's context ended by %v", err)
	}
	a.rwc.Close()
	others.Wait()
}
