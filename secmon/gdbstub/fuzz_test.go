package gdbstub

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// stream is a connection that says what the fuzzer wants, and takes anything.
type stream struct {
	io.Reader
	written int
}

func (s *stream) Write(p []byte) (int, error) {
	s.written += len(p)
	return len(p), nil
}

func (s *stream) Close() error { return nil }

// FuzzServe serves whatever comes. The stub has to end with it, leave the target
// alone that it has not killed, and say no more than a packet for each byte.
func FuzzServe(f *testing.F) {
	for _, seed := range []string{
		"+$qSupported:swbreak+#2b$?#3f$g#67", "$QStartNoAckMode#b0+$vCont?#49$vCont;s:1;c#c1\x03$Hg2#e1",
		"$m1000,10#2b$X1000,2:}\x03}\x04#00", "$Z0,1000,1#c1$z2,1000,8#f9$D#44", "$vFile:open:2f6b65726e656c,0,0#00$vFile:pread:3,10,0#00",
		"$qXfer:features:read:target.xml:0,fff#7d", "$G00#d7$P0=00#dd$p0#a0", "GET / HTTP/1.1\r\n", "$$$#00", "$x#78-", "$k#6b", "$vKill;1#6e",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		target := newFake()
		s := &stream{Reader: bytes.NewReader(data)}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Serve(t.Context(), s, target)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the stub does not end")
		}
		if target.attached && !target.killed {
			t.Error("the target was not let go")
		}
		if s.written > (len(data)+1)*(2*packetSize+8) {
			t.Errorf("%d bytes for %d", s.written, len(data))
		}
	})
}

// FuzzPacket sends any bytes and reads them back.
func FuzzPacket(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("}#$*\x03+-"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > packetSize {
			return
		}
		var b bytes.Buffer
		c := newConn(&b)
		if err := c.send(p); err != nil {
			t.Fatal(err)
		}
		got, err := c.read()
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("%q came back as %q, %v", p, got, err)
		}
	})
}
