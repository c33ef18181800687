package testguest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Guest is the guest's half while it runs.
type Guest struct{ out *os.File }

// Report tells the host something; v is sent as JSON.
func (g *Guest) Report(name string, v any) {
	value, err := json.Marshal(v)
	if err != nil {
		g.Fatal(err)
	}
	line, err := json.Marshal(event{name, value})
	if err != nil {
		g.Fatal(err)
	}
	fmt.Fprintf(g.out, "\n%s%s\n", mark, line)
	// The kernel prints past what waits in the terminal: see it out first.
	// Before the terminal is there, the console has no queue.
	_ = unix.IoctlSetInt(int(g.out.Fd()), unix.TCSBRK, 1)
}

// Fatal ends the guest's half; the host's fails with the message.
func (g *Guest) Fatal(args ...any) {
	g.Report(fail, fmt.Sprint(args...))
	runtime.Goexit()
}

// Check is Fatal if err is not nil.
func (g *Guest) Check(err error) {
	if err != nil {
		g.Fatal(err)
	}
}

// runGuest is init: it sets the guest up, runs the half that the command line
// names, and switches the machine off. The sole way to end well is "done".
func runGuest() {
	g := &Guest{out: os.Stdout}
	ended := make(chan struct{})
	// On a goroutine of its own, so that Fatal can end it.
	go func() {
		defer close(ended)
		g.mount()
		g.loadModules()
		g.half().run(g)
		g.Report(done, nil)
	}()
	<-ended
	unix.Sync()
	g.Check(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func (g *Guest) mount() {
	for _, m := range []struct{ source, target, kind string }{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}, {"tmpfs", "/tmp", "tmpfs"},
	} {
		g.Check(os.MkdirAll(m.target, 0o755))
		g.Check(unix.Mount(m.source, m.target, m.kind, 0, ""))
	}
	tty, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY|unix.O_NOCTTY, 0)
	g.Check(err)
	g.out = tty
}

func (g *Guest) loadModules() {
	modules, err := filepath.Glob("/modules/*.ko")
	g.Check(err)
	slices.Sort(modules)
	for _, path := range modules {
		f, err := os.Open(path)
		g.Check(err)
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			g.Fatal(path, ": ", err)
		}
		f.Close()
	}
}

func (g *Guest) half() *Half {
	cmdline, err := os.ReadFile("/proc/cmdline")
	g.Check(err)
	for field := range strings.FieldsSeq(string(cmdline)) {
		if name, ok := strings.CutPrefix(field, argument); ok && halves[name] != nil {
			return halves[name]
		}
	}
	g.Fatal("no half of that name in this binary: ", string(cmdline))
	return nil
}
