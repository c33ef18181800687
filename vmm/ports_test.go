//go:build soak

package vmm_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/vmm"
)

var usesPorts = testguest.Register("uses-ports", func(g *testguest.Guest) {
	path := eventually(g, func() (string, bool) {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == "org.warder.test" {
				return filepath.Join("/dev", filepath.Base(filepath.Dir(name))), true
			}
		}
		return "", false
	})
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	g.Check(err)
	_, err = port.WriteString("hello host\n") // waits for somebody to connect
	g.Check(err)
	lines := bufio.NewReader(port)
	line, err := lines.ReadString('\n')
	g.Check(err)
	g.Report("got", line)
	_, err = lines.ReadString('\n')
	g.Report("then", err == io.EOF)

	// Linux forgets a size that comes while nobody has the terminal open.
	terminal := eventually(g, func() (*os.File, bool) {
		ttys, _ := filepath.Glob("/dev/hvc*")
		for _, path := range ttys {
			tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
			if err != nil {
				continue // a number that no console has
			}
			return tty, true
		}
		return nil, false
	})
	defer terminal.Close()
	g.Report("terminal", nil)
	g.Report("size", eventually(g, func() ([2]uint16, bool) {
		ws, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ)
		if err != nil || ws.Row == 0 {
			return [2]uint16{}, false
		}
		return [2]uint16{ws.Col, ws.Row}, true
	}))
})

func TestLinuxUsesPorts(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "port")
	r := usesPorts.Start(t, vmm.Config{Ports: []vmm.Port{
		{Name: "terminal", Terminal: true}, {Name: "org.warder.test", Socket: socket},
	}})
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "hello host\n" {
		t.Errorf("the host got %q (%v)", line, err)
	}
	if _, err := io.WriteString(c, "hello guest\n"); err != nil {
		t.Error(err)
	}
	if got := testguest.Get[string](r, "got"); got != "hello guest\n" {
		t.Errorf("the guest got %q", got)
	}
	if !r.Port("org.warder.test").Open() {
		t.Error("the port that the guest has open is said to be closed")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !testguest.Get[bool](r, "then") {
		t.Error("the guest did not see the connection end")
	}
	r.Event("terminal")
	r.Port("terminal").SetSize(100, 40)
	if got := testguest.Get[[2]uint16](r, "size"); got != [2]uint16{100, 40} {
		t.Errorf("the terminal has %d columns and %d rows, want 100 and 40", got[0], got[1])
	}
	r.Finish()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket outlived the machine")
	}
}
