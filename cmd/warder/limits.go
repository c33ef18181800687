package main

import (
	"errors"
	"log/slog"
	"os"
	"runtime"

	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/mirror"
	"warder/supervisor/verify"
	"warder/vmm/cgroup"
	"warder/vmm/hostinfo"
)

// joinCgroup moves this process into a group, if one is named.
func joinCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	return cgroup.Join(dir)
}

// usualWeight is that of a VM for which no other is given.
const usualWeight = declaration.DefaultCPUWeight

// shareOut gives each VM a part of the CPU time that does not depend on how many
// threads the others have.
func (c *hostConfig) shareOut(log *slog.Logger) error {
	if err := joinCgroup(c.Cgroup); err != nil {
		return err
	}
	if err := tryGroup(); err != nil {
		log.Warn("VMs share CPU time by their threads, not by their weights", "because", err)
		return nil
	}
	c.weight = usualWeight
	return nil
}

// tryGroup does once what a VM with a weight does.
func tryGroup() error {
	g, err := cgroup.New("probe", usualWeight)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err = g.Enter(); err == nil {
		err = g.Leave()
	}
	return errors.Join(err, g.Close())
}

// limitsConfig is what the VMs of a host may hold together. What is not given is
// not bounded, but for memory: see ledger.
type limitsConfig struct {
	VCPUs  int    `yaml:"vcpus"`
	VMs    int    `yaml:"vms"`
	Memory string `yaml:"memory"`
	// Headroom is how much memory of the machine stays free.
	Headroom string `yaml:"headroom"`
	// Images is how much of the disk the images may take that services are of.
	Images string `yaml:"images"`

	memory, headroom, images declaration.Size
}

// usualHeadroom is for the host's other programs, and for what warder itself needs
// for a VM, in bytes.
const usualHeadroom = 64 << 20

func (l *limitsConfig) check() error {
	if l.VCPUs < 0 || l.VMs < 0 {
		return errors.New("limits: give numbers above 0, or none for no bound")
	}
	l.headroom = usualHeadroom
	for what, size := range map[string]struct {
		text string
		to   *declaration.Size
	}{"memory": {l.Memory, &l.memory}, "headroom": {l.Headroom, &l.headroom}, "images": {l.Images, &l.images}} {
		if size.text == "" {
			continue
		}
		if err := size.to.Set(size.text); err != nil {
			return &declaration.Problem{Path: "limits." + what, Text: err.Error()}
		}
	}
	return nil
}

// hosting is what this machine's services may hold together. A kernel that runs out of
// memory ends this process, and all VMs with it, so no more is promised than is
// available, unless the configuration says so.
func (c *hostConfig) hosting() (hosting.Config, error) {
	l := c.Limits
	own := hosting.Config{
		Capacity: verify.Capacity{VCPUs: l.VCPUs, Memory: uint64(l.memory), Holders: l.VMs},
		Headroom: uint64(l.headroom), Metered: !c.Overcommit,
		Reserved: verify.Reserved{For: mirror.Name, Memory: c.Supervisor.bytes()},
	}
	own.Most = own.Capacity
	if own.Most.Memory == 0 && !c.Overcommit {
		own.Most.Memory = hostinfo.ReadMemory().Total
	}
	if c.Access.Policies != "" {
		src, err := os.ReadFile(c.Access.Policies)
		if err != nil {
			return own, err
		}
		own.PolicyFile, own.Policies, own.Inside = c.Access.Policies, string(src), c.Access.VMs
	}
	return own, nil
}
