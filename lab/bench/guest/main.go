// Command guest is /init of the guests in which devices are measured: it loads
// modules, drives the devices that its arguments name, the same way under each
// VMM, and writes what it found to its console, one "quantity value" a line. Where it
// is not /init it is one end of a connection between two guests.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/system"
	"warder/lab/bench/initrd"
)

// workloads by the device's name, an argument of this program.
var workloads = map[string]func(report) error{
	"blk":     measureDisk,
	"fs":      measureShare,
	"vsock":   measureSocket,
	"net":     measureNet,
	"console": measureConsole,
	"calls":   measureCalls,
}

// A report takes one value: megabytes a second, microseconds, or of calls
// nanoseconds.
type report func(quantity string, value float64)

func main() {
	if len(os.Args) == 2 && os.Args[1] == tracedArgument {
		if err := makeCalls(printed("calls")); err != nil {
			fmt.Println("error", err)
		}
		return
	}
	if os.Getpid() != 1 {
		if err := beside(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		return
	}
	if err := prepare(); err != nil {
		fmt.Println("error", err)
	}
	measure(os.Args[1:])
	os.Stdout.Write([]byte{initrd.Mark, '\n'})
	if slices.Contains(os.Args[1:], "calls") {
		// Who counted them says how many when the machine ends; the kernel's last word must
		// not come in between.
		_ = unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, 1)
		fmt.Println("error", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	}
	select {}
}

func prepare() error {
	system.MountBase()
	modules, err := filepath.Glob(initrd.ModulesDir + "/*") // sorted, which is the order
	if err != nil {
		return err
	}
	return system.LoadModules(modules)
}

// measure measures devices one after the other; one that fails is said to.
func measure(devices []string) {
	for _, d := range devices {
		f, ok := workloads[d]
		if !ok {
			continue // an argument of the kernel's
		}
		r := printed(d)
		if d != "calls" { // in which a tracer's arrears are to be seen
			r = unhurried(r)
		}
		err := f(r)
		if err != nil {
			fmt.Printf("error %s: %v\n", d, err)
		}
	}
}

// printed writes what is found of a device to standard output.
func printed(device string) report {
	return func(quantity string, value float64) { fmt.Printf("%s/%s %g\n", device, quantity, value) }
}

// unhurried waits until the host has seen to a report, which would take its CPU from what is
// measured next.
func unhurried(r report) report {
	return func(quantity string, value float64) {
		r(quantity, value)
		time.Sleep(100 * time.Millisecond)
	}
}

// What is moved, the same for all devices.
const (
	block = 1 << 20 // bytes a request of a stream
	total = initrd.StreamSize
	small = 4096
	tries = 100 // of what takes a latency
)

// stream measures the throughput of move, which moves a block of total, in MB/s.
func stream(total int, move func([]byte) error) (float64, error) {
	b, err := buffer(min(block, total))
	if err != nil {
		return 0, err
	}
	from := time.Now()
	for range total / len(b) {
		if err := move(b); err != nil {
			return 0, err
		}
	}
	return float64(total) / time.Since(from).Seconds() / 1e6, nil
}

// each measures what one act takes on average, in microseconds.
func each(act func(i int) error) (float64, error) {
	from := time.Now()
	for i := range tries {
		if err := act(i); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(from).Microseconds()) / tries, nil
}

// buffer is n bytes that are aligned as O_DIRECT wants them.
func buffer(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("buffer: %w", err)
	}
	return b, nil
}

// appear waits for a file that a driver makes.
func appear(name string) error {
	if eventually(func() error { _, err := os.Stat(name); return err }) != nil {
		return errors.New("no " + name + ": its driver found no device")
	}
	return nil
}

// eventually does something again and again until it goes well.
func eventually(f func() error) (err error) {
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if err = f(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
