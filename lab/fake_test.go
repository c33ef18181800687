package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"warder/lab/wire"
)

// The tests' emulator is this test binary: when the environment says so it
// plays an outer machine in the way the test asks for.
const fakeVar = "LAB_TEST_MACHINE"

func TestMain(m *testing.M) {
	if how := os.Getenv(fakeVar); how != "" {
		os.Exit(fakeMachine(how))
	}
	os.Exit(m.Run())
}

// fake returns a configuration whose emulator behaves as how says.
func fake(t *testing.T, how string) Config {
	t.Helper()
	t.Setenv(fakeVar, how)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Arch: "amd64", QEMU: QEMU{Path: self}, Kernel: "/kernel", Init: self,
		BootTimeout: 30 * time.Second, Silence: 30 * time.Second,
	}
}

const panicLine = "[    1.5] Kernel panic - not syncing: Fatal exception in interrupt"

// fakeMachine plays a machine; what it is asked to is space-separated: what
// happens at boot, and what to do with a command.
func fakeMachine(how string) int {
	f := os.NewFile(portFD, "port")
	conn, err := net.FileConn(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := wire.NewWriter(conn)
	at, do, _ := strings.Cut(how, " ")
	switch at {
	case "ends":
		fmt.Fprintln(os.Stderr, "qemu: could not load kernel")
		return 3
	case "panics":
		fmt.Println("[    1.4] Oops\r\n" + panicLine + "\r")
		return 0
	case "hangs":
		time.Sleep(time.Hour)
	case "garbage":
		conn.Write([]byte("\xff\xff\xff\xff\xff\xff"))
		time.Sleep(time.Hour)
	case "nokvm":
		_ = w.WriteJSON(wire.Hello, wire.HelloInfo{Kernel: "6"})
		time.Sleep(time.Hour)
	case "second": // the first machine ends, and leaves a mark for the next
		mark := os.Getenv("LAB_TEST_MARK")
		if _, err := os.Stat(mark); err != nil {
			_ = os.WriteFile(mark, nil, 0o600)
			return 1
		}
	}
	if err := w.WriteJSON(wire.Hello, wire.HelloInfo{Kernel: "6", CPUs: 1, KVM: true}); err != nil {
		return 1
	}
	for {
		start, err := wire.Read(conn)
		if err != nil {
			return 0
		}
		if start.Type == wire.Start {
			var info wire.StartInfo
			if start.Decode(&info) != nil {
				return 1
			}
			if info.Args[0] == "absent" {
				do = "lost"
			}
			if status := fakeCommand(do, conn, w); status != 0 {
				return status
			}
			_, do, _ = strings.Cut(how, " ")
		}
	}
}

// fakeCommand plays a command. Its result is the machine's exit status, if it
// is not to go on.
func fakeCommand(do string, r io.Reader, w *wire.Writer) int {
	exit := func(e wire.ExitInfo) int {
		if w.WriteJSON(wire.Exit, e) != nil {
			return 1
		}
		return 0
	}
	switch do {
	case "silent":
		_ = w.Write(wire.Stdout, []byte("begun\n"))
		time.Sleep(time.Hour)
	case "dies":
		_ = w.Write(wire.Stdout, []byte("begun\n"))
		return 1
	case "panics":
		fmt.Println(panicLine)
		return 1
	case "slow": // longer than the silence allowed, but alive
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			_ = w.Write(wire.Alive, nil)
		}
		return exit(wire.ExitInfo{Status: 4})
	case "killed": // ends only when killed
		for {
			f, err := wire.Read(r)
			if err != nil {
				return 1
			}
			if f.Type == wire.Signal {
				var c wire.Count
				_ = f.Decode(&c)
				return exit(wire.ExitInfo{Status: 128 + c.N})
			}
		}
	case "lost":
		return exit(wire.ExitInfo{Status: 127, Err: "no such command"})
	case "results":
		_ = w.Write(wire.Result, resultsTar)
		return exit(wire.ExitInfo{})
	case "hoards": // reads input without giving credit, then gives it
		total := 0
		for total < wire.StdinWindow-64<<10 {
			f, err := wire.Read(r)
			if err != nil {
				return 1
			}
			total += len(f.Payload)
		}
		_ = w.WriteJSON(wire.StdinCredit, wire.Count{N: total})
		for {
			f, err := wire.Read(r)
			if err != nil {
				return 1
			}
			if f.Type == wire.StdinEnd {
				fmt.Fprintf(w.Stream(wire.Stdout), "%d", total)
				return exit(wire.ExitInfo{})
			}
			total += len(f.Payload)
			_ = w.WriteJSON(wire.StdinCredit, wire.Count{N: len(f.Payload)})
		}
	default: // ordinary: echo, then end
		for {
			f, err := wire.Read(r)
			if err != nil {
				return 1
			}
			if f.Type == wire.StdinEnd {
				break
			}
			_ = w.Write(wire.Stdout, f.Payload)
			_ = w.WriteJSON(wire.StdinCredit, wire.Count{N: len(f.Payload)})
		}
		_ = w.Write(wire.Stderr, []byte("done"))
		return exit(wire.ExitInfo{Status: 7, Start: time.Second, End: 3 * time.Second})
	}
	return 0
}
