package pcapng_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"warder/internal/oracle"
	"warder/secmon/lan/pcapng"
)

// frame is a datagram of UDP from 10.0.0.1 port 1 to 10.0.0.2 port 9.
var frame = []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00" +
	"\x45\x00\x00\x1d\x00\x00\x40\x00\x40\x11\x26\xce\x0a\x00\x00\x01\x0a\x00\x00\x02" + "\x00\x01\x00\x09\x00\x09\x00\x00x")

func write(t *testing.T, w io.Writer) {
	t.Helper()
	p, err := pcapng.NewWriter(w, "warder", "udp port 9", 40)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a.vlan1", "b.vlan7"} {
		n, err := p.Interface(pcapng.Ethernet, name, "VM "+name[:1])
		if err != nil || n != uint32(i) {
			t.Fatalf("interface %d, %v", n, err)
		}
		if err := p.Frame(n, 1_763_800_000_123_456_789+int64(i), frame, len(frame), "from "+name[:1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Lost(1, 1_763_800_001_000_000_000, 77); err != nil {
		t.Fatal(err)
	}
}

func TestGopacketReads(t *testing.T) {
	var b bytes.Buffer
	write(t, &b)
	r, err := pcapgo.NewNgReader(&b, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		in, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %v %d %s", i, frame[:40], 1_763_800_000_123_456_789+int64(i), []string{"a.vlan1 VM a", "b.vlan7 VM b"}[i])
		if got := fmt.Sprintf("%d %v %d %s %s", info.InterfaceIndex, data, info.Timestamp.UnixNano(), in.Name, in.Description); got != want || info.Length != len(frame) {
			t.Errorf("got %s, %d bytes\nwant %s", got, info.Length, want)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestTsharkReads(t *testing.T) {
	tshark := oracle.Command(t, "tshark", "tshark")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tshark, "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.interface_description",
		"-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len", "-e", "udp.dstport", "-e", "frame.comment")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "a.vlan1\tVM a\t1763800000.123456789\t43\t40\t9\tfrom a\nb.vlan7\tVM b\t1763800000.123456790\t43\t40\t9\tfrom b\n"
	if string(out) != want {
		t.Errorf("tshark has\n%s\nwant\n%s", out, want)
	}
}

// TestBlocksAreWhole has each block go out by one call.
func TestBlocksAreWhole(t *testing.T) {
	var sizes []string
	write(t, writer(func(p []byte) {
		n := int(p[4]) | int(p[5])<<8
		sizes = append(sizes, fmt.Sprint(n == len(p) && n%4 == 0 && bytes.Equal(p[4:8], p[len(p)-4:])))
	}))
	if got := strings.Join(sizes, " "); got != "true true true true true true" {
		t.Error(got)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
