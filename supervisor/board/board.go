// Package board is PID 1 of a machine that does nothing but run warder: it
// brings the system up to where "warder host" can run, runs it, starts it again
// when it fails, and puts the machine out when it is done or the power button
// says so. There is no other system on the machine.
//
//	up ──▶ warder host ──▶ status 0: power off
//	            ▲   │
//	            └───┴──── anything else: once more, after a pause that grows
//
// SIGTERM, SIGPWR and the power button end warder host and power the machine
// off; SIGINT, which the kernel makes of Ctrl-Alt-Del, restarts it.
package board

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot/boardimage"
	"warder/guestinit/system"
)

// IsInit tells whether this process is the PID 1 of such a machine.
func IsInit() bool {
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(boardimage.SettingsPath)
	return err == nil
}

// Main is the life of the machine. It does not return.
func Main() {
	m := machine{log: newLog(os.Stderr, logPath)}
	m.up()
	m.down(m.serve(hostCommand(m.config)))
}

// A machine is the board while it runs.
type machine struct {
	log    *log
	config string // of warder host
}

func (m *machine) say(format string, args ...any) {
	fmt.Fprintf(m.log, "warder: "+format+"\n", args...)
}

// note says what failed and did not stop the machine from coming up.
func (m *machine) note(what string, err error) {
	if err != nil {
		m.say("%s: %v", what, err)
	}
}

// up brings the system up. It goes on after a failure: a machine that lacks
// something may still run its VMs, and says so.
func (m *machine) up() {
	m.note("file systems", system.MountBase())
	settings, err := boardimage.ReadSettings()
	m.note("settings", err)
	m.say("%s starts, Linux %s", settings.Hostname, system.Kernel())
	m.loadModules(settings.Modules)
	m.note("loopback", system.LoopbackUp())
	m.note("name", system.SetHostname(settings.Hostname))
	if time.Now().Before(settings.Built) { // no clock, or an empty one
		m.note("clock", system.SetClock(settings.Built))
	}
	const files = 1 << 16 // a few dozen for each VM
	m.note("limit of open files", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}))
	// Ctrl-Alt-Del is to be a signal to this process.
	m.note("Ctrl-Alt-Del", unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF))
	m.config = boardimage.ConfigPath
	if settings.Volume != "" {
		m.mountMedium(settings.Volume)
	}
}

// mediumDir is where the boot medium is mounted.
const mediumDir = "/boot"

// mountMedium mounts the boot medium and has warder host take the configuration
// that is there. It is mounted for reading alone: a machine loses its power at
// any time.
func (m *machine) mountMedium(label string) {
	device, kind, err := waitForVolume(label)
	if err != nil {
		m.say("boot medium: %v; going on with the configuration of the image", err)
		return
	}
	if err := os.MkdirAll(mediumDir, 0o755); err != nil {
		m.note("boot medium", err)
		return
	}
	if err := unix.Mount(device, mediumDir, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		m.note("mount "+device, err)
		return
	}
	path := filepath.Join(mediumDir, boardimage.ConfigFile)
	if _, err := os.Stat(path); err != nil {
		m.note("boot medium", err)
		return
	}
	m.config = path
}

// loadModules loads modules in order.
func (m *machine) loadModules(paths []string) {
	for _, p := range paths {
		m.note(p, loadModule(p))
	}
}

// loadModule loads a module. That the machine has nothing for it is as expected:
// an image is for more than one machine, and has KVM for each make of CPU.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	switch err := unix.FinitModule(int(f.Fd()), "", 0); err {
	case unix.EEXIST, unix.ENODEV, unix.EOPNOTSUPP:
		return nil
	default:
		return err
	}
}

// An ending is what becomes of the machine.
type ending int

const (
	powerOff ending = iota
	restart
)

// down ends the machine. It does not return.
func (m *machine) down(e ending) {
	m.note("unmount", system.UnmountAll())
	unix.Sync()
	how, what := unix.LINUX_REBOOT_CMD_POWER_OFF, "power off"
	if e == restart {
		how, what = unix.LINUX_REBOOT_CMD_RESTART, "restart"
	}
	m.say("%s", what)
	m.note(what, unix.Reboot(how))
	select {} // PID 1 must not end
}

// endings hands out what the machine is told to do: by signals and by its power
// button.
func endings(ctx context.Context) <-chan ending {
	told := make(chan ending, 1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGPWR, unix.SIGINT)
	tell := func(e ending) {
		select {
		case told <- e:
		default: // it ends already
		}
	}
	go func() {
		for s := range signals {
			if s == unix.SIGINT {
				tell(restart)
			} else {
				tell(powerOff)
			}
		}
	}()
	go system.WatchPowerKey(ctx, func() { tell(powerOff) })
	return told
}

// hostCommand is what the machine is for.
func hostCommand(config string) command {
	return command{
		path: "/bin/warder",
		args: []string{"warder", "host", "--config", config},
		env: []string{
			"PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "WARDER_CACHE=" + boardimage.CacheDir,
		},
	}
}

// serve runs c until the machine is to end.
func (m *machine) serve(c command) ending {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return supervise(c, m.log, endings(ctx), m.say, time.After)
}
