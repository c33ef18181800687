package proto

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Methods that the host calls in the guest, with the types of their arguments
// and results.
const (
	MethodSetup    = "setup"    // Setup
	MethodStart    = "start"    // Start -> Started
	MethodSignal   = "signal"   // Signal
	MethodResize   = "resize"   // Resize
	MethodInfo     = "info"     // -> Info
	MethodCPUs     = "cpus"     // SetCPUs -> CPUs
	MethodPowerOff = "poweroff" // PowerOff; the reply comes before the guest stops
)

// Notices that the guest sends to the host.
const (
	NoticeExited   = "exited"   // Exited
	NoticeStopping = "stopping" // Stopping
	NoticeShortage = "shortage" // Shortage
)

// Hello is the first frame in each direction of a control connection.
type Hello struct {
	Version int `json:"version"`
	// The guest's kernel release and GOARCH name; empty from the host.
	Kernel string `json:"kernel,omitempty"`
	Arch   string `json:"arch,omitempty"`
	// Uptime is the guest kernel's age when its hello was sent.
	Uptime time.Duration `json:"uptime_ns,omitempty"`
	// Warnings are things that failed at boot and that the guest can live
	// without, such as a module that did not load.
	Warnings []string `json:"warnings,omitempty"`
}

// Setup makes a booted guest this VM: nothing in the initramfs names it.
type Setup struct {
	// Time is the host's clock, for a guest without one that is right.
	Time time.Time `json:"time"`
	// Entropy is credited in full to the guest's random number generator.
	Entropy  []byte `json:"entropy,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	// ReadOnly are block devices, as in "pmem0", of which the driver cannot tell that
	// the host lets nobody write to them.
	ReadOnly []string `json:"read_only,omitempty"`
	// Root is what commands see in place of the guest's own file system, nil for that.
	Root *Root `json:"root,omitempty"`
	// Secrets are the names of those that the guest asks for and puts into
	// /run/secrets.
	Secrets []string `json:"secrets,omitempty"`
	// Mounts are there where commands are.
	Mounts []Mount `json:"mounts,omitempty"`
	// Interfaces are the network interfaces to bring up.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Resolvers are the addresses of name servers. None: the guest's own, if any.
	Resolvers []string `json:"resolvers,omitempty"`
	// Watchdog has the guest start its machine's watchdog with that timeout, in
	// whole seconds, and set it back from then on. 0: it is left alone.
	Watchdog time.Duration `json:"watchdog_ns,omitempty"`
	// Shortages are what the guest is to tell of by notices when it is short of it.
	Shortages []string `json:"shortages,omitempty"`
}

// What a guest can be short of.
const (
	Memory = "memory"
	CPU    = "cpu"
)

// Shortage says that processes of the guest wait for something.
type Shortage struct {
	Resource string `json:"resource"`
}

// A Root is a file system that commands see as all there is.
type Root struct {
	Device string `json:"device"` // as in "pmem0"
	// FileSystem is what is on it, as Linux calls it; EROFS when it is "".
	FileSystem string `json:"file_system,omitempty"`
	// Disk is the block device that keeps what they write, as in "vda", with an ext4
	// file system. It is in the guest's memory without one.
	Disk string `json:"disk,omitempty"`
}

// An Interface is a network interface that the guest brings up.
type Interface struct {
	MAC       string         `json:"mac"` // by which it is known
	MTU       int            `json:"mtu,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"` // of default routes, at most one of IPv4 and of IPv6
	DHCP      bool           `json:"dhcp,omitempty"`     // has a server lend it an IPv4 address, which it keeps
}

// A Mount is a file system that the guest mounts, by the meaning of mount(2).
type Mount struct {
	Type     string `json:"type"`   // "virtiofs", "ext4", ...
	Source   string `json:"source"` // a virtio-fs tag, a block device
	Target   string `json:"target"` // absolute; made when missing
	Options  string `json:"options,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// A Command is a program to run in the guest.
type Command struct {
	// Args has the program first, looked up in the PATH of Env when it has no
	// slash.
	Args []string `json:"args"`
	// Env adds to the guest's own PATH, HOME, USER, SHELL and, on a terminal,
	// TERM; an entry here wins.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory, the user's home when empty.
	Dir string `json:"dir,omitempty"`
	// User is "name", "name:group" or numbers for either; root when empty.
	User string `json:"user,omitempty"`
	// TTY gives the command a terminal of its own in place of pipes.
	TTY bool `json:"tty,omitempty"`
	// Cols and Rows are the terminal's first size in characters.
	Cols uint16 `json:"cols,omitempty"`
	Rows uint16 `json:"rows,omitempty"`
}

// Start asks for a command. The guest dials one connection per stream that is
// wanted, each with Token; a stream that is not wanted is /dev/null. A command
// with a terminal has the one stream TTY.
type Start struct {
	ID      uint64  `json:"id"` // chosen by the host, names the command from then on
	Token   Token   `json:"token"`
	Streams []Role  `json:"streams,omitempty"`
	Command Command `json:"command"`
}

// Started is the reply to Start.
type Started struct {
	PID int `json:"pid"`
}

// Exited says how a command ended. All its output has been written to its
// streams by then.
type Exited struct {
	ID     uint64 `json:"id"`
	Status Status `json:"status"`
}

// Status is how a command ended.
type Status struct {
	Code   int `json:"code"`             // exit status, when Signal is 0
	Signal int `json:"signal,omitempty"` // the signal that ended it
	// OutOfMemory says that the guest's kernel killed a process of the
	// command, not always the first, for want of memory.
	OutOfMemory bool `json:"out_of_memory,omitempty"`
}

// ExitCode is the status as shells and container tools give it: 128 + n for a
// death by signal n.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + s.Signal
	}
	return s.Code
}

// Signal sends a signal to a running command.
type Signal struct {
	ID     uint64 `json:"id"`
	Signal int    `json:"signal"`
	// Tree sends SIGKILL to every process that the command started, instead
	// of Signal to the first one.
	Tree bool `json:"tree,omitempty"`
}

// Resize changes the size of a running command's terminal.
type Resize struct {
	ID   uint64 `json:"id"`
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// PowerOff stops the guest: SIGTERM to every process, up to Grace for them to
// end, then SIGKILL, sync, unmount, power off.
type PowerOff struct {
	Grace time.Duration `json:"grace_ns"`
}

// Stopping says that the guest is about to power off, and why.
type Stopping struct {
	Reason string `json:"reason"`
}

// Info is the guest's own view of its resources; sizes in bytes.
type Info struct {
	Uptime          time.Duration `json:"uptime_ns"`
	MemoryTotal     uint64        `json:"memory_total"`
	MemoryAvailable uint64        `json:"memory_available"`
	Load            [3]float64    `json:"load"` // over 1, 5 and 15 minutes
	Processes       int           `json:"processes"`
	OOMKills        uint64        `json:"oom_kills"` // since boot
	Pressure        *Pressure     `json:"pressure,omitempty"`
	CPUs            CPUs          `json:"cpus"`
}

// SetCPUs says how many of the guest's CPUs are to be on line.
type SetCPUs struct {
	Online int `json:"online"`
}

// Pressure is the part of the last ten seconds in which some task waited, in percent,
// and how long some has waited since boot: avg10 and total of the line "some" in
// /proc/pressure (Documentation/accounting/psi.rst).
type Pressure struct {
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	IO     float64 `json:"io"`

	CPUWaited    time.Duration `json:"cpu_waited_ns"`
	MemoryWaited time.Duration `json:"memory_waited_ns"`
}

// CPUs is how many CPUs the guest has, and how many of them are on line.
type CPUs struct {
	Present int `json:"present"`
	Online  int `json:"online"`
}

// A Code says why a call failed, where the caller acts on it.
type Code string

// The codes of an Error.
const (
	CodeInternal      Code = "internal"
	CodeBadRequest    Code = "bad-request"
	CodeBusy          Code = "busy"           // too many calls or commands at once
	CodeUnknownMethod Code = "unknown-method" // of a newer peer
	CodeRefused       Code = "refused"        // it may not ask for that
	CodeNotFound      Code = "not-found"      // no such program, or no such command
	CodeNotExecutable Code = "not-executable" // a program that cannot be run
)

// An Error is a call's failure, as the other end reported it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Detail is for programs that know more of such an error, as JSON.
	Detail string `json:"detail,omitempty"`
}

// Error is the message, fit to be shown: from a hostile peer it may be
// anything.
func (e *Error) Error() string { return Printable(e.Message) }

// maxPrintable bounds a peer's text that is shown, in bytes.
const maxPrintable = 1 << 10

// Printable takes out of a peer's text what a terminal would obey, and cuts it
// to length.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s[:min(len(s), maxPrintable)])
}

// Errorf gives an Error; the message is for a person.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
