package supervisor

import (
	"fmt"
	"slices"
	"strings"

	"warder/vmm"
)

// A GuestError is what became of a guest that did not come up or went away.
type GuestError struct {
	// Cause is a sentence for a person, without the name of the VM. What it
	// quotes of the guest has no control characters.
	Cause string
	// Panicked says that the guest's kernel did.
	Panicked bool
	// Exit is how the machine ended; its Reason is 0 while it runs.
	Exit vmm.Exit
	// Serial is the last that the guest's kernel said.
	Serial []string
}

func (e *GuestError) Error() string { return e.Cause }
func (e *GuestError) Unwrap() error { return e.Exit.Err }

// Ended says what became of the VM; it waits for its machine to end.
func (vm *ServiceVM) Ended() *GuestError { return gone(vm.machine.Wait(), vm.serial.bytes()) }

const (
	panicMark = "Kernel panic - not syncing: "
	initMark  = "warder-init: "
	oomMark   = "System is deadlocked on memory"
)

// gone explains the end of a machine that should run.
func gone(exit vmm.Exit, serial []byte) *GuestError {
	e := &GuestError{Exit: exit, Serial: lines(serial)}
	if cause, ok := last(e.Serial, panicMark); ok {
		e.Panicked = true
		switch {
		case strings.HasPrefix(cause, oomMark):
			e.Cause = "the guest is out of memory, its kernel panicked: " + cause + " (give it more memory)"
		case strings.HasPrefix(cause, "Attempted to kill init"):
			e.Cause = "the guest's PID 1 failed, so its kernel panicked: " + cause
		case strings.HasPrefix(cause, "No working init found"), strings.HasPrefix(cause, "Requested init"),
			strings.HasPrefix(cause, "VFS: Unable to mount root"):
			e.Cause = "the guest kernel found no PID 1 in its initramfs: " + cause
		default:
			e.Cause = "the guest kernel panicked: " + cause
		}
		return e
	}
	switch exit.Reason {
	case vmm.PowerOff:
		e.Cause = "the guest switched itself off"
	case vmm.Reset:
		e.Cause = "the guest restarted its machine"
		if exit.Err != nil {
			e.Cause = exit.Err.Error() + " and was reset"
		}
	case vmm.Hung:
		e.Cause = exit.Err.Error() + " and was killed"
	case vmm.Killed:
		e.Cause = "the VM was killed"
	case vmm.Crashed:
		e.Cause = fmt.Sprintf("the guest crashed: %v", exit.Err)
	default:
		e.Cause = fmt.Sprintf("the host could not go on with the VM: %v", exit.Err)
	}
	if said, ok := last(e.Serial, initMark); ok {
		e.Cause += ", its PID 1 had said: " + said
	} else if n := len(e.Serial); n > 0 && exit.Reason != vmm.Killed {
		e.Cause += ", its kernel had said: " + e.Serial[n-1]
	}
	return e
}

// stuck explains a machine that runs and does not answer, having reached what
// is said there.
func stuck(patience fmt.Stringer, reached string, stats vmm.Stats, serial []byte) *GuestError {
	e := &GuestError{Serial: lines(serial)}
	e.Cause = fmt.Sprintf("the guest did not answer within %v: ", patience)
	said, ok := last(e.Serial, initMark)
	switch {
	case reached != "":
		e.Cause += reached
	case ok:
		e.Cause += "its PID 1 says: " + said
	case vsockUp(stats):
		e.Cause += "its PID 1 has not dialled the host, though its virtio-vsock driver is up"
	case len(e.Serial) > 0:
		e.Cause += "its PID 1 has not come as far as its virtio-vsock driver (does the guest kernel have virtio_mmio and virtio-vsock?); its kernel's last words: " + e.Serial[len(e.Serial)-1]
	case len(stats.Exits) == 0:
		e.Cause += "its kernel has not touched a device"
	default:
		e.Cause += "its kernel runs, but its PID 1 has said nothing (try --console to see more)"
	}
	return e
}

// vsockUp says whether the guest's driver has used the device.
func vsockUp(stats vmm.Stats) bool {
	return slices.ContainsFunc(stats.Devices, func(d vmm.DeviceStats) bool { return d.Name == "vsock" && d.Chains > 0 })
}

// last finds the last line with mark and gives what follows it.
func last(lines []string, mark string) (string, bool) {
	for _, l := range slices.Backward(lines) {
		if _, rest, ok := strings.Cut(l, mark); ok {
			return rest, true
		}
	}
	return "", false
}
