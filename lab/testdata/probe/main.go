// Command probe is what the test of the lab runs in an outer machine: it shows
// that streams, environment, results and KVM are there.
package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "work" {
		work()
		return
	}
	if err := probe(); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
	os.Exit(7)
}

// work executes as many instructions each time: tens of millions, beside which those
// of the kernel's own doing are few.
func work() {
	x := uint64(os.Getpid())
	for range 5_000_000 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	fmt.Println(x)
}

func probe() error {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	vm, err := createVM()
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	fmt.Printf("in=%d env=%s lab=%s dir=%s vm=%v arg=%s\n", len(in), os.Getenv("X"), os.Getenv("WARDER_LAB"), dir, vm, os.Args[1])
	fmt.Fprint(os.Stderr, "diagnostics")
	if err := os.MkdirAll("/results/sub", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/results/sub/input", in, 0o644)
}

// createVM shows that KVM is one that has VMs.
func createVM() (bool, error) {
	const createVM = 0xae01
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), createVM, 0)
	if errno != 0 {
		return false, fmt.Errorf("KVM_CREATE_VM: %w", errno)
	}
	return true, unix.Close(int(fd))
}
