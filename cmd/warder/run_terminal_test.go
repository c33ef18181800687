package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openTerminal gives both ends of a terminal of the given size.
func openTerminal(t *testing.T, cols, rows uint16) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	resize(t, slave, cols, rows)
	return master, slave
}

func resize(t *testing.T, slave *os.File, cols, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func termios(t *testing.T, slave *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// TestRunTerminal is a person at a terminal: types a line, changes the size of
// the window, presses Ctrl-C.
func TestRunTerminal(t *testing.T) {
	inVM(t)
	master, slave := openTerminal(t, 91, 17)
	before := termios(t, slave)
	cmd := warderCommand(t, "run", "-it", "--", "sh", "-c",
		"stty; read x; echo got:$x; while ! stty | grep -q rows:33; do sleep 0.1; done; echo resized; sleep 1000")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	wait := func(want string) {
		t.Helper()
		master.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 1024)
		for !strings.Contains(seen.String(), want) {
			n, err := master.Read(b)
			if err != nil {
				t.Fatalf("no %q: %v, in %q", want, err, seen.String())
			}
			seen.Write(b[:n])
		}
	}
	wait("rows:17 cols:91")
	if raw := termios(t, slave); raw.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Errorf("the terminal is not raw: local modes %#x", raw.Lflag)
	}
	master.WriteString("typed\r")
	wait("got:typed\r\n")
	resize(t, slave, 101, 33)
	wait("resized")
	master.Write([]byte{3})
	if status := finish(t, cmd, cmd.Wait()); status != 128+int(syscall.SIGINT) {
		t.Errorf("status %d, output %q", status, seen.String())
	}
	if diff := cmp.Diff(before, termios(t, slave)); diff != "" {
		t.Errorf("the terminal was not restored (-before +after):\n%s", diff)
	}
}
