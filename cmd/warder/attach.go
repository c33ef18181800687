package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"warder/devices/virtio/console"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/vmm"
)

// attachTo parses what a VM is connected to into spec. Paths are relative to the
// directory base, and absolute in spec.
func attachTo(spec *supervisor.Spec, a declaration.Attachments, base string) error {
	return errors.Join(
		parseAll(&spec.Disks, base, a.Disks, parseDisk),
		parseAll(&spec.Shares, base, a.Shares, parseShare),
		parseAll(&spec.Nets, base, a.Nets, parseNet),
		parseAll(&spec.Pmems, base, a.Pmems, parsePmem),
		parseAll(&spec.Ports, base, a.Ports, parsePort),
	)
}

// grow gives a VM that is up the memory that it was not started with.
func grow(vm *supervisor.ServiceVM, spec supervisor.Spec) error {
	if spec.MemoryMax <= spec.Memory {
		return nil
	}
	return vm.Machine().SetMemory(spec.MemoryMax)
}

func parseAll[T any](to *[]T, base string, list []string, parse func(base, s string) (T, error)) error {
	for _, s := range list {
		v, err := parse(base, s)
		if err != nil {
			return err
		}
		*to = append(*to, v)
	}
	return nil
}

var errPortInLab = errors.New("a port with --lab: its socket would be inside the emulated machine, where nobody can connect to it")

// attachedInLab is warder run's flags for what of spec is of files, and the files.
func attachedInLab(spec supervisor.Spec) (args, files []string) {
	add := func(flag, file, value, mode string) {
		args, files = append(args, "--"+flag+"="+value+mode), append(files, file)
	}
	mode := map[bool]string{true: ":ro", false: ":rw"}
	for _, d := range spec.Disks {
		add("disk", d.Path, d.Path, mode[d.ReadOnly])
	}
	for _, p := range spec.Pmems {
		add("pmem", p.Path, p.Path, mode[!p.Writable])
	}
	for _, s := range spec.Shares {
		add("share", s.Host, s.Host+":"+s.Guest, mode[s.ReadOnly])
	}
	return args, files
}

// parseShare parses HOST:GUEST[:ro].
func parseShare(base, s string) (supervisor.Share, error) {
	parts := strings.Split(s, ":")
	sh := supervisor.Share{}
	if len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw") {
		sh.ReadOnly = parts[2] == "ro"
		parts = parts[:2]
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		return sh, fmt.Errorf("--share %s: give HOST:GUEST or HOST:GUEST:ro", s)
	}
	host, err := absolute(base, parts[0])
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
func parseDisk(base, s string) (vmm.Disk, error) {
	d := vmm.Disk{Path: s}
	if p, ok := strings.CutSuffix(s, ":ro"); ok {
		d.Path, d.ReadOnly = p, true
	} else if p, ok := strings.CutSuffix(s, ":rw"); ok {
		d.Path = p
	}
	if d.Path == "" {
		return d, fmt.Errorf("--disk %s: give PATH or PATH:ro", s)
	}
	path, err := absolute(base, d.Path)
	d.Path = path
	return d, err
}

// parsePmem parses PATH[:rw].
func parsePmem(base, s string) (vmm.Pmem, error) {
	path, writable := strings.CutSuffix(s, ":rw")
	if !writable {
		path = strings.TrimSuffix(path, ":ro")
	}
	if path == "" {
		return vmm.Pmem{}, fmt.Errorf("--pmem %s: give PATH or PATH:rw", s)
	}
	path, err := absolute(base, path)
	return vmm.Pmem{Path: path, Writable: writable}, err
}

// parsePort parses NAME=unix:PATH.
func parsePort(base, s string) (vmm.Port, error) {
	name, socket, _ := strings.Cut(s, "=")
	path, ok := strings.CutPrefix(socket, "unix:")
	if !ok || path == "" {
		return vmm.Port{}, fmt.Errorf("--port %s: give NAME=unix:PATH", s)
	}
	if err := console.CheckName(name); err != nil {
		return vmm.Port{}, fmt.Errorf("--port %s: %w", s, err)
	}
	path, err := absolute(base, path)
	return vmm.Port{Name: name, Socket: path}, err
}
