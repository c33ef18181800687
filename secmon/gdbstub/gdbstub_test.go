package gdbstub

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testgdb"
)

func TestSession(t *testing.T) {
	f := newFake()
	c := dial(t, f)
	c.Send("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+")
	if got := c.Receive(); !strings.Contains(got, "PacketSize=4000;") || !strings.Contains(got, "qXfer:features:read+") {
		t.Errorf("supported: %q", got)
	}
	if !f.attached {
		t.Error("the target was not attached")
	}
	c.Ask("vMustReplyEmpty", "")
	c.Ask("QStartNoAckMode", "OK")
	c.Acks = false
	c.Ask("?", "T02thread:1;")
	c.Ask("qAttached", "1")
	c.Ask("qC", "QC1")
	c.Ask("qfThreadInfo", "m1,2")
	c.Ask("qsThreadInfo", "l")
	c.Ask("qThreadExtraInfo,1", hex.EncodeToString([]byte("one busy")))
	c.Ask("qThreadExtraInfo,9", "E16")
	c.Ask("qXfer:threads:read::0,1000", `l<threads><thread id="1" core="0" name="one">busy</thread><thread id="2" core="1" name="&lt;two&gt;"></thread></threads>`)
	c.Ask("qXfer:features:read:target.xml:0,8", "m<target>")
	c.Ask("qXfer:features:read:target.xml:8,ffffffff", "l"+fakeXML[8:])
	c.Ask("qXfer:features:read:target.xml:ffffffffffffffff,8", "l")
	c.Ask("qXfer:features:read:other.xml:0,8", "E00")
	c.Ask("qXfer:nothing:read::0,8", "")

	c.Ask("g", "000102030405060708090a0b")
	c.Ask("Hg2", "OK")
	c.Ask("Hg9", "E16")
	c.Ask("Hc-1", "OK")
	c.Ask("T2", "OK")
	c.Ask("T3", "E16")
	c.Ask("p1", "08090a0b")
	c.Ask("p2", "E16")
	c.Ask("P1=ffffffff", "OK")
	c.Ask("P1=ff", "E16")
	c.Ask("g", "0101020304050607ffffffff")
	c.Ask("G010102030405060712345678", "OK")
	c.Ask("p1", "12345678")
	f.failing = true
	c.Ask("g", "E0e")
	f.failing = false

	c.Ask("M1000,4:01020304", "OK")
	c.Ask("m1000,4", "01020304")
	c.Ask("X1004,0:", "OK")
	c.Ask("X1004,3:a}\x03b", "OK") // a # b
	c.Ask("m1004,3", hex.EncodeToString([]byte("a#b")))
	c.Ask("m1fff,10", "00") // as much as there is
	c.Ask("m2000,1", "E0e")
	c.Ask("M1000,4:01", "E16")
	c.Ask("M1000,4", "E16")
	c.Ask("m1000", "E16")
	c.Ask("m1000,0", "")
	if c.Send("m1000,ffffffffffffffff"); len(c.Receive()) != 2*4096 {
		t.Error("a read without bound is not cut")
	}
}

func TestBreakpoints(t *testing.T) {
	f := newFake()
	c := dial(t, f)
	c.Ask("Z0,1234,1", "OK")
	c.Ask("Z2,1000,8", "OK")
	c.Ask("Z3,1000,8", "")
	c.Ask("Z9,1000,8", "")
	c.Ask("Z0,x,1", "")
	c.Ask("Z0,1,1;X3,aabbcc", "E16")
	if want := []Break{{Software, 0x1234, 1}, {WatchWrite, 0x1000, 8}}; !slices.Equal(f.breaks, want) {
		t.Errorf("breakpoints %v", f.breaks)
	}
	c.Ask("z2,1000,8", "OK")
	c.Ask("Z1,1,1", "OK")
	c.Ask("Z1,2,1", "OK")
	c.Ask("Z1,3,1", "OK")
	c.Ask("Z1,4,1", "E0e")
	c.Ask("D", "OK")
	c.ends()
	if f.attached || len(f.breaks) != 0 {
		t.Error("the target was not let go")
	}
}

func TestResume(t *testing.T) {
	f := newFake()
	c := dial(t, f)
	c.Send("qSupported:swbreak+;hwbreak+")
	c.Receive()
	c.Ask("vCont?", "vCont;c;C;s;S")
	all := []Action{{1, false}, {2, false}}
	for _, r := range []struct {
		packet string
		want   []Action
		stop   Stop
		reply  string
	}{
		{"vCont;c", all, Stop{Reason: Hit, Thread: 2, Break: Break{Software, 0x10, 1}}, "T05thread:2;swbreak:;"},
		{"vCont;s:2", []Action{{2, true}}, Stop{Reason: Stepped, Thread: 2}, "T05thread:2;"},
		{"vCont;s:1;c", []Action{{1, true}, {2, false}}, Stop{Reason: Hit, Thread: 1, Break: Break{Hardware, 0x10, 1}}, "T05thread:1;hwbreak:;"},
		{"vCont;C05:-1", all, Stop{Reason: Hit, Thread: 1, Break: Break{WatchWrite, 0x20, 4}}, "T05thread:1;watch:20;"},
		{"c", all, Stop{Reason: Hit, Thread: 1, Break: Break{WatchRead, 0x20, 4}}, "T05thread:1;rwatch:20;"},
		{"s", []Action{{1, true}}, Stop{Reason: Hit, Thread: 1, Break: Break{WatchAccess, 0x20, 4}}, "T05thread:1;awatch:20;"},
		{"C05", all, Stop{Reason: Exited, Status: 3}, "W03"},
	} {
		f.next = &r.stop
		c.Send(r.packet)
		if got := c.Receive(); got != r.reply || !slices.Equal(f.resumed, r.want) {
			t.Errorf("%s: %v, %q", r.packet, f.resumed, got)
		}
	}
	c.Ask("c", "E16") // it has ended
	c.Ask("vCont;c", "E16")
	c.Ask("vCont;x", "E16")
	c.Ask("vCont;c:zz", "E16")
	c.Ask("c1000", "E16")
}

func TestInterrupt(t *testing.T) {
	f := newFake()
	c := dial(t, f)
	c.Ask("?", "T02thread:1;")
	c.Send("vCont;c")
	c.Ask("g", "E10") // it runs
	c.Raw("\x03")
	if got := c.Receive(); got != "T02thread:2;" {
		t.Errorf("an interrupt was answered %q", got)
	}
	c.Ask("p0", "0101020304050607") // of the thread that stopped
	c.Send("vCont;c")
	c.Ask("D", "OK")
	c.ends()
}

func TestKill(t *testing.T) {
	f := newFake()
	c := dial(t, f)
	c.Ask("vKill;1", "OK")
	c.ends()
	if !f.killed {
		t.Error("not killed")
	}
}

// A debugger that is gone leaves the target as if it had detached.
func TestGone(t *testing.T) {
	for _, running := range []bool{false, true} {
		f := newFake()
		c := dial(t, f)
		c.Ask("Z0,1,1", "OK")
		if running {
			c.Send("c")
		}
		c.Conn.Close()
		c.ends()
		if f.attached || len(f.breaks) != 0 {
			t.Error("the target was not let go")
		}
	}
}

func TestFiles(t *testing.T) {
	c := dial(t, newFake())
	c.Ask("qXfer:exec-file:read::0,100", "l/kernel")
	c.Ask("vFile:setfs:0", "F0")
	c.Ask("vFile:open:"+hex.EncodeToString([]byte("/etc/passwd"))+",0,0", "F-1,2")
	c.Ask("vFile:open:"+hex.EncodeToString([]byte("/kernel"))+",1,0", "F-1,1e")
	c.Ask("vFile:open:"+hex.EncodeToString([]byte("/kernel"))+",0,1b6", "F3")
	c.Ask("vFile:pread:3,100,0", "F8;\x7fELF}#$*")
	c.Ask("vFile:pread:3,2,6", "F2;$*")
	c.Ask("vFile:pread:3,2,ffffffffffffffff", "F0;")
	c.Ask("vFile:pread:4,2,0", "F-1,9")
	c.Ask("vFile:pread:3", "F-1,16")
	c.Send("vFile:fstat:3")
	if got := c.Receive(); !strings.HasPrefix(got, "F40;") || len(got) != 4+64 || got[4+28+7] != 8 {
		t.Errorf("fstat gave %q", got)
	}
	c.Ask("vFile:pwrite:3,0,a", "F-1,1e")
	c.Ask("vFile:close:3", "F0")
	c.Ask("vFile:close:3", "F-1,9")
	c.Ask("vFile:open", "F-1,16")
	c.Ask("vFile:nothing:", "")
	for range maxFiles {
		c.Send("vFile:open:" + hex.EncodeToString([]byte("/kernel")) + ",0,0")
		c.Receive()
	}
	c.Ask("vFile:open:"+hex.EncodeToString([]byte("/kernel"))+",0,0", "F-1,18")
}

// TestPackets is about the layer below the commands.
func TestPackets(t *testing.T) {
	c := dial(t, newFake())
	c.Ask("", "")
	c.Raw("$?#00")
	if b := c.Byte(); b != '-' {
		t.Errorf("a wrong checksum was answered %q", b)
	}
	c.Acks = false
	c.Raw("$gar$?#3f") // begun anew
	if b := c.Byte(); b != '+' {
		t.Errorf("a packet begun anew was answered %q", b)
	}
	first := c.Receive()
	c.Raw("-")
	if again := c.Receive(); again != first {
		t.Errorf("%q was sent again as %q", first, again)
	}
	go c.Conn.Write(bytes.Repeat([]byte("$"+strings.Repeat("x", packetSize+1)), 2)) // until the stub hangs up
	if err := <-c.done; !errors.Is(err, errTooLong) {
		t.Errorf("a packet that is too long: %v", err)
	}
}

// What is no debugger does nothing to the target.
func TestNoDebugger(t *testing.T) {
	f := newFake()
	c := dial(t, f)
	go c.Conn.Write([]byte("POST / HTTP/1.1\r\n\r\n$k#6b"))
	if err := <-c.done; !errors.Is(err, errNotGDB) || f.attached || f.killed {
		t.Errorf("%v, attached %v, killed %v", err, f.attached, f.killed)
	}
}

func TestListen(t *testing.T) {
	for where, network := range map[string]string{"0": "tcp", ":0": "tcp", "localhost:0": "tcp", "unix:" + filepath.Join(t.TempDir(), "gdb"): "unix"} {
		l, err := Listen(where)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		defer l.Close()
		if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() || l.Addr().Network() != network {
			t.Errorf("%s listens at %v", where, l.Addr())
		}
		if path, ok := strings.CutPrefix(where, "unix:"); ok {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			if _, err := Listen(where); err == nil {
				t.Error("a socket in use was taken")
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
			again, err := Listen(where)
			if err != nil {
				t.Fatal(err)
			}
			again.Close()
		}
	}
	for _, where := range []string{"", "x:y:z", "localhost:", ":none"} {
		if l, err := Listen(where); err == nil {
			l.Close()
			t.Errorf("%q: listens", where)
		}
	}
}

func TestOneDebuggerAtATime(t *testing.T) {
	l, err := Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ServeAll(ctx, l, func() (Target, error) { return newFake(), nil }, slog.New(slog.DiscardHandler))
	}()
	connect := func() *testgdb.Client {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return testgdb.New(t, conn)
	}
	first := connect()
	first.Ask("?", "T02thread:1;")
	second := connect()
	if err := second.Closed(); !errors.Is(err, io.EOF) {
		t.Errorf("a second debugger: %v", err)
	}
	first.Ask("D", "OK")
	// The acknowledgement of the last packet may come to a closed connection.
	if err := first.Closed(); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after a detach: %v", err)
	}
	third := connect()
	third.Ask("?", "T02thread:1;")
	cancel()
	<-done
}
