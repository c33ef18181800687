package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"warder/devices/virtio/console"
	"warder/guestinit/proto"
	"warder/supervisor"
	"warder/vmm"
)

// runFlags is a command line of warder run.
type runFlags struct {
	name     string
	cpus     int
	memory   memory
	watchdog string
	kernel   string
	initrd   string
	disks    []string
	shares   []string
	nets     []string
	pmems    []string
	ports    []string
	env      []string
	dir      string
	user     string
	timeout  time.Duration
	console  bool
	tty      bool
	stdin    bool
	lab      string
	args     []string

	cpuWeight int
	cpuMax    float64
	cgroup    string
}

// A size is a number of bytes on the command line: 512M, 2G, a plain number
// being MiB.
type size uint64

func (s *size) String() string {
	switch {
	case *s == 0:
		return ""
	case *s%(1<<20) != 0:
		return strconv.FormatUint(uint64(*s)>>10, 10) + "K"
	}
	return strconv.FormatUint(uint64(*s)>>20, 10) + "M"
}

func (s *size) Type() string { return "size" }

func (s *size) Set(v string) error {
	digits, shift := v, 20
	if i := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = v[:i]
		switch strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(v[i:]), "b"), "i") {
		case "k":
			shift = 10
		case "m":
		case "g":
			shift = 30
		case "t":
			shift = 40
		default:
			return fmt.Errorf("give a number with K, M, G or T, as in 512M")
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > 1<<62>>shift {
		return fmt.Errorf("give a number with K, M, G or T, as in 512M")
	}
	*s = size(n << shift)
	return nil
}

// parseShare parses HOST:GUEST[:ro].
func parseShare(s string) (supervisor.Share, error) {
	parts := strings.Split(s, ":")
	sh := supervisor.Share{}
	if len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw") {
		sh.ReadOnly = parts[2] == "ro"
		parts = parts[:2]
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		return sh, fmt.Errorf("--share %s: give HOST:GUEST or HOST:GUEST:ro", s)
	}
	host, err := filepath.Abs(parts[0])
	if err != nil {
		return sh, err
	}
	st, err := os.Stat(host)
	if err != nil {
		return sh, fmt.Errorf("--share %s: %w", s, err)
	}
	if !st.IsDir() {
		return sh, fmt.Errorf("--share %s: %s is not a directory", s, host)
	}
	sh.Host, sh.Guest = host, parts[1]
	return sh, nil
}

// parseDisk parses PATH[:ro].
func parseDisk(s string) (vmm.Disk, error) {
	d := vmm.Disk{Path: s}
	if p, ok := strings.CutSuffix(s, ":ro"); ok {
		d.Path, d.ReadOnly = p, true
	} else if p, ok := strings.CutSuffix(s, ":rw"); ok {
		d.Path = p
	}
	if d.Path == "" {
		return d, fmt.Errorf("--disk %s: give PATH or PATH:ro", s)
	}
	path, err := filepath.Abs(d.Path)
	d.Path = path
	return d, err
}

// parsePmem parses PATH[:rw].
func parsePmem(s string) (vmm.Pmem, error) {
	path, writable := strings.CutSuffix(s, ":rw")
	if !writable {
		path = strings.TrimSuffix(path, ":ro")
	}
	if path == "" {
		return vmm.Pmem{}, fmt.Errorf("--pmem %s: give PATH or PATH:rw", s)
	}
	path, err := filepath.Abs(path)
	return vmm.Pmem{Path: path, Writable: writable}, err
}

// parsePort parses NAME=unix:PATH.
func parsePort(s string) (vmm.Port, error) {
	name, socket, _ := strings.Cut(s, "=")
	path, ok := strings.CutPrefix(socket, "unix:")
	if !ok || path == "" {
		return vmm.Port{}, fmt.Errorf("--port %s: give NAME=unix:PATH", s)
	}
	if err := console.CheckName(name); err != nil {
		return vmm.Port{}, fmt.Errorf("--port %s: %w", s, err)
	}
	path, err := filepath.Abs(path)
	return vmm.Port{Name: name, Socket: path}, err
}

// spec is the VM to start, with absolute paths.
func (f runFlags) spec() (supervisor.Spec, error) {
	spec := supervisor.Spec{
		Name: f.name, CPUs: f.cpus, Memory: uint64(f.memory.start), MemoryMax: uint64(f.memory.most),
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
	for _, s := range f.disks {
		d, err := parseDisk(s)
		if err != nil {
			return spec, err
		}
		spec.Disks = append(spec.Disks, d)
	}
	if spec.Nets, err = parseNets(f.nets); err != nil {
		return spec, err
	}
	for _, s := range f.pmems {
		p, err := parsePmem(s)
		if err != nil {
			return spec, err
		}
		spec.Pmems = append(spec.Pmems, p)
	}
	for _, s := range f.ports {
		p, err := parsePort(s)
		if err != nil {
			return spec, err
		}
		spec.Ports = append(spec.Ports, p)
	}
	for _, s := range f.shares {
		sh, err := parseShare(s)
		if err != nil {
			return spec, err
		}
		spec.Shares = append(spec.Shares, sh)
	}
	return spec, nil
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
		return nil, nil, errors.New("--port with --lab: the socket would be inside the emulated machine, where nobody can connect to it")
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
	if f.memory.start != 0 {
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
	for _, d := range spec.Disks {
		mode := ":rw"
		if d.ReadOnly {
			mode = ":ro"
		}
		add("disk", d.Path+mode)
		files = append(files, d.Path)
	}
	for _, p := range spec.Pmems {
		mode := ":ro"
		if p.Writable {
			mode = ":rw"
		}
		add("pmem", p.Path+mode)
		files = append(files, p.Path)
	}
	for _, s := range spec.Shares {
		mode := ":rw"
		if s.ReadOnly {
			mode = ":ro"
		}
		add("share", s.Host+":"+s.Guest+mode)
		files = append(files, s.Host)
	}
	for _, n := range f.nets {
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
	if f.tty {
		args = append(args, "--tty")
	}
	if f.stdin {
		args = append(args, "--interactive")
	}
	return append(append(args, "--"), f.args...), files, nil
}
