package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"warder/secmon/lan/filter"
	"warder/secmon/lan/monitor"
)

// Marks are datagrams before and after what is compared.
const (
	firstMark = "here it begins"
	lastMark  = "here it ends"
)

// recorder is what a guest's own kernel says that it sends, as tcpdump would have it.
type recorder struct{ fd int }

// record begins to record the frames of eth0.
func record() (*recorder, error) {
	card, err := net.InterfaceByName("eth0")
	if err != nil {
		return nil, err
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	const room = 32 << 20
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: card.Index})
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &recorder{fd}, nil
}

// save writes the frames up to the last mark to a file, each after its length.
func (r *recorder) save(path string) error {
	defer unix.Close(r.fd)
	var out []byte
	buf := make([]byte, 1<<17)
	for done := false; !done; {
		n, from, err := unix.Recvfrom(r.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("without a last mark: %w", err)
		}
		if a, ok := from.(*unix.SockaddrLinklayer); !ok || a.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		out = append(binary.LittleEndian.AppendUint32(out, uint32(n)), buf[:n]...)
		done = bytes.HasSuffix(buf[:n], []byte(lastMark))
	}
	s, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || s.Drops != 0 {
		return fmt.Errorf("%+v, %w", s, err)
	}
	return os.WriteFile(path, out, 0o644)
}

// capture is what warder itself captures meanwhile, by sender.
type capture struct {
	mon    *monitor.Monitor
	tap    *monitor.Tap
	cancel context.CancelFunc
	wait   sync.WaitGroup
	frames map[string][][]byte
}

func captureAll(t *testing.T, m *monitor.Monitor) *capture {
	t.Helper()
	all, err := filter.Parse("not vsock")
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{mon: m, tap: m.Capture(all, 1<<17), frames: make(map[string][][]byte)}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	c.wait.Go(func() {
		for {
			f, err := c.tap.Next(ctx)
			if err != nil {
				return
			}
			c.frames[f.From] = append(c.frames[f.From], f.Data)
		}
	})
	return c
}

// stop ends the capture when all there is has been taken.
func (c *capture) stop(t *testing.T) {
	t.Helper()
	c.mon.Release(c.tap)
	c.cancel()
	c.wait.Wait()
	for c.tap.Waits() {
		f, err := c.tap.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.frames[f.From] = append(c.frames[f.From], f.Data)
	}
	if n := c.tap.Lost(); n != 0 {
		t.Errorf("the capture lost %d frames", n)
	}
}

// marked are the frames from the first mark to the last.
func marked(frames [][]byte) [][]byte {
	has := func(mark string) func([]byte) bool {
		return func(p []byte) bool { return bytes.HasSuffix(p, []byte(mark)) }
	}
	first, last := slices.IndexFunc(frames, has(firstMark)), slices.IndexFunc(frames, has(lastMark))
	if first < 0 || last < first {
		return nil
	}
	return frames[first : last+1]
}

// recorded holds what guests have recorded in a directory against what was captured: each
// frame that one of them sends is there, in its order and byte for byte, and no other.
func (c *capture) recorded(t *testing.T, dir string, names ...string) {
	t.Helper()
	c.stop(t)
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join(dir, name+".frames"))
		if err != nil {
			t.Error(err)
			continue
		}
		var sent [][]byte
		for len(raw) >= 4 {
			n := min(int(binary.LittleEndian.Uint32(raw)), len(raw)-4)
			sent = append(sent, raw[4:4+n])
			raw = raw[4+n:]
		}
		sent = marked(sent)
		seen := marked(c.frames[name])
		size, longest := 0, 0
		for i, p := range sent {
			size, longest = size+len(p), max(longest, len(p))
			if i >= len(seen) || !bytes.Equal(p, seen[i]) {
				t.Errorf("%s: frame %d of %d of the %d bytes that it sent is another one, or is not captured", name, i, len(sent), len(p))
				break
			}
		}
		if len(sent) < 3 || len(sent) != len(seen) {
			t.Errorf("%s sent %d frames, %d were captured", name, len(sent), len(seen))
		}
		t.Logf("%s: %d frames, %d bytes, the longest of %d", name, len(sent), size, longest)
	}
}
