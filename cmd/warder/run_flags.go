package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/vmm"
)

// runFlags is a command line of warder run.
type runFlags struct {
	name     string
	cpus     int
	memory   declaration.Memory
	watchdog string
	kernel   string
	initrd   string
	image    string
	overlay  string
	attached declaration.Attachments
	env      []string
	dir      string
	user     string
	timeout  time.Duration
	console  bool
	tty      bool
	stdin    bool
	lab      string
	gdb      string
	gdbWait  bool
	trace    *traceFlags // nil for none
	args     []string

	cpuWeight int
	cpuMax    float64
	cgroup    string
}

// spec is the VM to start, with absolute paths.
func (f runFlags) spec() (supervisor.Spec, error) {
	spec := supervisor.Spec{
		Name: f.name, CPUs: f.cpus, Memory: uint64(f.memory.Start), MemoryMax: uint64(f.memory.Most),
		Watchdog: vmm.WatchdogAction(f.watchdog),
		Initrd:   f.initrd, CPUWeight: f.cpuWeight, CPUMax: f.cpuMax,
	}
	kernel, err := kernelName(f.kernel).absolute(".")
	if err != nil {
		return spec, err
	}
	spec.Kernel = string(kernel)
	if spec.Initrd != "" {
		if spec.Initrd, err = filepath.Abs(spec.Initrd); err != nil {
			return spec, err
		}
	}
	return spec, attachTo(&spec, f.attached, ".")
}

// command is what to run in the guest. An entry of the environment without a
// value has this process's, as container tools do it.
func (f runFlags) command() proto.Command {
	c := proto.Command{Args: f.args, Dir: f.dir, User: f.user, TTY: f.tty}
	if term := os.Getenv("TERM"); f.tty && term != "" {
		c.Env = append(c.Env, "TERM="+term)
	}
	for _, e := range f.env {
		if !strings.Contains(e, "=") {
			v, ok := os.LookupEnv(e)
			if !ok {
				continue
			}
			e += "=" + v
		}
		c.Env = append(c.Env, e)
	}
	return c
}

// inLab is the same command line for the inside of the lab, where the files
// that it names have the same, absolute paths, and the environment is another.
func (f runFlags) inLab() (args, files []string, err error) {
	spec, err := f.spec()
	if err != nil {
		return nil, nil, err
	}
	if len(spec.Ports) > 0 {
		return nil, nil, errPortInLab
	}
	args = []string{"run", "--name=" + f.name}
	add := func(name, value string) { args = append(args, "--"+name+"="+value) }
	if f.cpus != 0 {
		add("cpus", strconv.Itoa(f.cpus))
	}
	if f.cpuWeight != 0 {
		add("cpu-weight", strconv.Itoa(f.cpuWeight))
	}
	if f.cpuMax != 0 {
		add("cpu-max", strconv.FormatFloat(f.cpuMax, 'g', -1, 64))
	}
	if f.cgroup != "" {
		add("cgroup", f.cgroup)
	}
	if f.memory.Start != 0 {
		add("memory", f.memory.String())
	}
	if f.watchdog != "" {
		add("watchdog", f.watchdog)
	}
	if spec.Kernel != "" {
		add("kernel", spec.Kernel)
		if path, ok := kernelName(spec.Kernel).file(); ok {
			files = append(files, path)
		}
	}
	if spec.Initrd != "" {
		add("initrd", spec.Initrd)
		files = append(files, spec.Initrd)
	}
	if f.image != "" {
		image, file, err := imageForLab(context.Background(), f.image, f.lab)
		if err != nil {
			return nil, nil, err
		}
		add("image", image)
		files = append(files, file)
	}
	if f.overlay != "" {
		path, err := filepath.Abs(f.overlay)
		if err != nil {
			return nil, nil, err
		}
		add("overlay", path)
		files = append(files, path)
	}
	attached, more := attachedInLab(spec)
	args, files = append(args, attached...), append(files, more...)
	for _, n := range f.attached.Nets {
		add("net", n)
	}
	for _, e := range f.command().Env {
		add("env", e)
	}
	if f.dir != "" {
		add("workdir", f.dir)
	}
	if f.user != "" {
		add("user", f.user)
	}
	if f.timeout != 0 {
		add("timeout", f.timeout.String())
	}
	if f.console {
		args = append(args, "--console")
	}
	if f.gdb != "" {
		if f.gdb != gdbStdio {
			return nil, nil, errors.New("--gdb with --lab: nobody can connect to the emulated machine: give --gdb stdio, for GDB's \"target remote | warder run --lab --gdb stdio\"")
		}
		add("gdb", f.gdb)
	}
	if f.gdbWait {
		args = append(args, "--gdb-wait")
	}
	if t := f.trace; t != nil {
		args[0] = "trace"
		for _, s := range t.sets {
			add("trace", s)
		}
		add("string-limit", strconv.Itoa(t.limit))
		add("output", t.output)
		if t.follow {
			args = append(args, "--follow-forks")
		}
	}
	if f.tty {
		args = append(args, "--tty")
	}
	if f.stdin {
		args = append(args, "--interactive")
	}
	return append(append(args, "--"), f.args...), files, nil
}
