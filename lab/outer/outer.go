// Package outer is PID 1 of the lab's outer machine: it makes the kernel's
// file systems and KVM available and then runs what the host asks for.
//
// Any binary can be the machine's /init: it calls Main when IsInit says so.
package outer

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/wire"
)

// ModulesDir holds the kernel modules to load, in the order of their names.
const ModulesDir = "/lib/lab-modules"

// CacheDir is warder's cache directory in the machine.
const CacheDir = "/var/cache/warder"

// initArgument is on the kernel command line after "--", which makes it an
// argument of /init: it tells the lab's /init from any other PID 1.
const initArgument = "lab-outer"

// CommandLine is what the kernel command line must end with.
const CommandLine = "-- " + initArgument

// IsInit reports whether this process is /init of an outer machine.
func IsInit() bool {
	return os.Getpid() == 1 && len(os.Args) == 2 && os.Args[1] == initArgument
}

// Main is the life of the outer machine. It does not return: when the host
// goes away or something fails, it powers the machine off, with the reason on
// the serial console.
func Main() {
	err := serve()
	fmt.Fprintln(os.Stderr, "lab: outer machine:", err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	os.Exit(1)
}

func serve() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := loadModules(ModulesDir); err != nil {
		return err
	}
	if err := configure(); err != nil {
		return err
	}
	port, err := openPort(wire.PortName)
	if err != nil {
		return err
	}
	defer port.Close()
	w := wire.NewWriter(port)
	hello, err := describe()
	if err != nil {
		return err
	}
	if err := w.WriteJSON(wire.Hello, hello); err != nil {
		return err
	}
	go func() {
		for range time.Tick(wire.AlivePeriod) {
			if w.Write(wire.Alive, nil) != nil {
				return
			}
		}
	}()
	return (&agent{r: port, w: w}).run()
}

func describe() (wire.HelloInfo, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return wire.HelloInfo{}, fmt.Errorf("uname: %w", err)
	}
	return wire.HelloInfo{
		Kernel: unix.ByteSliceToString(u.Release[:]),
		CPUs:   runtime.NumCPU(),
		KVM:    holdVM() == nil,
		Uptime: monotonic().Seconds(),
	}, nil
}

// holdVM creates a VM that stays for ever. With the first VM the kernel
// switches virtualisation on and patches its scheduler (preempt_notifier_inc),
// with the last one it undoes both. Emulated, another CPU that runs the patched
// code at that moment may take the breakpoint for a real one and panic: seen
// once in some thousand VMs.
func holdVM() error {
	const createVM = 0xae01 // KVM_CREATE_VM
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := unix.IoctlRetInt(int(f.Fd()), createVM); err != nil {
		return fmt.Errorf("KVM_CREATE_VM: %w", err)
	}
	return nil // the file descriptor stays open, and is not inherited
}

// openPort opens the virtio-serial port with a name. The driver announces
// ports one by one after the device, so it may take a moment to appear.
func openPort(name string) (*os.File, error) {
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil || strings.TrimSpace(string(b)) != name {
				continue
			}
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no virtio-serial port named %s after %v", name, patience)
}

// monotonic is the machine's raw monotonic clock. Under QEMU's instruction
// counting it advances by one nanosecond an instruction.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
