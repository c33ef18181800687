package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"warder/guestinit/proto"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/supervisor/network"
	"warder/vmm"
)

// hostConfig is the file of warder host --config.
type hostConfig struct {
	Kernel kernelName `yaml:"kernel"`
	Rules  string     `yaml:"rules"`
	Store  string     `yaml:"store"`
	// Snapshots is where snapshots for forensics are written.
	Snapshots string `yaml:"snapshots"`
	// Patterns are rules from others, and what rules are read with.
	Patterns patternsConfig `yaml:"patterns"`
	VMs      []hostVM       `yaml:"vms"`
	// Access lets other users ask for services.
	Access accessConfig `yaml:"access"`
	// State is a directory for what is to be known after a crash, "" for none.
	State string `yaml:"state"`
	// Services are started when somebody asks.
	Services []hostVM `yaml:"services"`
	// Secrets are those that services may ask for.
	Secrets secretsConfig `yaml:"secrets"`
	// Limits are what all VMs may hold together.
	Limits limitsConfig `yaml:"limits"`
	// Supervisor is the VM that decides about services.
	Supervisor supervisorConfig `yaml:"supervisor"`
	// LAN is the network between the VMs.
	LAN *network.Config `yaml:"lan"`
	// Cgroup is the group that warder moves into. Overcommit lets VMs start that
	// may use more memory together than there is.
	Cgroup     string `yaml:"cgroup"`
	Overcommit bool   `yaml:"overcommit"`

	base    string // the directory of the file
	shipped string // a file of the shipped rules to use alone
	weight  int    // of the VMs that give none; 0 where CPU time cannot be shared out
}

// hostVM is one service VM of it.
type hostVM struct {
	declaration.Service `yaml:",inline"`

	spec  supervisor.Spec // what is attached, parsed
	sized bool            // its size follows its need
}

// machine is the VM to start, but for what all of the host have in common.
func (v *hostVM) machine() supervisor.Spec {
	spec := v.spec
	spec.Name, spec.CPUs, spec.CPUWeight, spec.CPUMax = v.Name, v.CPUs, v.CPUWeight, v.CPUMax
	spec.BootCPUs = v.CPUsMin
	if v.sized && v.Memory.Most > v.Memory.Start {
		spec.Shortages = append(spec.Shortages, proto.Memory)
	}
	if v.sized && v.CPUsMin > 0 && v.CPUsMin < v.CPUs {
		spec.Shortages = append(spec.Shortages, proto.CPU)
	}
	spec.Memory, spec.MemoryMax = uint64(v.Memory.Start), uint64(v.Memory.Most)
	spec.Watchdog = vmm.WatchdogAction(v.Watchdog)
	return spec
}

// load reads the configuration that the flags name, all paths absolute.
func (f hostFlags) load() (cfg hostConfig, err error) {
	base := "."
	if f.config != "" {
		if base, err = filepath.Abs(filepath.Dir(f.config)); err != nil {
			return cfg, err
		}
		cfg.base = base
		if err := cfg.read(f.config, base); err != nil {
			return cfg, err
		}
	}
	if f.kernel != "" {
		cfg.Kernel, err = kernelName(f.kernel).absolute(".")
	} else {
		cfg.Kernel, err = cfg.Kernel.absolute(base)
	}
	if err != nil {
		return cfg, err
	}
	switch {
	case f.rules != "":
		cfg.Rules, err = filepath.Abs(f.rules)
	case cfg.Rules != "":
		cfg.Rules, err = absolute(base, cfg.Rules)
	}
	if err != nil {
		return cfg, err
	}
	switch {
	case f.store != "":
		cfg.Store, err = filepath.Abs(f.store)
	case cfg.Store != "":
		cfg.Store, err = absolute(base, cfg.Store)
	}
	if err == nil && cfg.State != "" {
		cfg.State, err = absolute(base, cfg.State)
	}
	if err == nil && cfg.Snapshots != "" {
		cfg.Snapshots, err = absolute(base, cfg.Snapshots)
	}
	if err == nil {
		err = cfg.setImages(f.images)
	}
	if f.cgroup != "" {
		cfg.Cgroup = f.cgroup
	}
	return cfg, err
}

// setImages gives VMs and services, by NAME=IMAGE, other images than the file's.
func (c *hostConfig) setImages(images []string) error {
	for _, s := range images {
		name, text, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("--image %s: give NAME=IMAGE", s)
		}
		image, err := localImage(text)
		if err != nil {
			return fmt.Errorf("--image %s: %w", s, err)
		}
		found := false
		for _, list := range [][]hostVM{c.VMs, c.Services} {
			for i := range list {
				if list[i].Name == name {
					list[i].Image, found = image.String(), true
				}
			}
		}
		if !found {
			return fmt.Errorf("--image %s: there is no VM and no service %q", s, name)
		}
	}
	return nil
}

// absolute is a path of a configuration file that is in the directory base.
func absolute(base, path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	return filepath.Abs(filepath.Join(base, path))
}

// read reads a file whose paths are relative to base.
func (c *hostConfig) read(file, base string) error {
	src, err := declaration.Open(file)
	if err != nil {
		return err
	}
	err = declaration.Decode(src, c)
	if err == nil {
		err = declaration.Explain(src, "", c.check(base))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (c *hostConfig) check(base string) error {
	if len(c.VMs) == 0 && !c.serves() {
		return errors.New("no VMs: give a list under vms or services, or a directory as state for services that are added")
	}
	if err := c.Patterns.check(base); err != nil {
		return err
	}
	errs := []error{c.Limits.check(), c.Access.check(base), c.Secrets.check(base), c.Supervisor.check(base)}
	seen := make(map[string]bool)
	for list, vms := range map[string][]hostVM{"vms": c.VMs, "services": c.Services} {
		for i := range vms {
			place := fmt.Sprintf("%s[%d]", list, i)
			errs = append(errs, vms[i].check(place, base, seen)...)
			for j, name := range vms[i].Secrets {
				if _, ok := c.Secrets[name]; !ok {
					errs = append(errs, &declaration.Problem{Path: fmt.Sprintf("%s.secrets[%d]", place, j), Text: fmt.Sprintf("there is no secret %q: say under secrets where it is from", name)})
				}
			}
			if vms[i].LAN != nil && c.LAN == nil {
				errs = append(errs, &declaration.Problem{Path: place + ".lan", Text: "there is no LAN: say what VLANs there are under lan"})
			}
		}
	}
	for i, v := range c.VMs {
		if v.Health != nil || v.Restart != (declaration.Restart{}) || v.CPUsMin != 0 || v.Priority != 0 {
			errs = append(errs, &declaration.Problem{Path: fmt.Sprintf("vms[%d].name", i), Text: "health, restart, cpus_min and priority are for what is listed under services"})
		}
		if v.OnDemand != nil {
			errs = append(errs, &declaration.Problem{Path: fmt.Sprintf("vms[%d].on_demand", i), Text: "this is for what is listed under services"})
		}
	}
	for i, v := range c.Services {
		if p := v.CheckWays(); p != nil {
			errs = append(errs, &declaration.Problem{Path: fmt.Sprintf("services[%d].%s", i, p.Path), Text: p.Text})
		}
	}
	return errors.Join(errs...)
}

// check says what is wrong with a VM at a place of the file, and parses what is
// attached to it.
func (v *hostVM) check(place, base string, seen map[string]bool) (errs []error) {
	if err := v.Check(); err != nil {
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			p := e.(*declaration.Problem)
			errs = append(errs, &declaration.Problem{Path: place + "." + p.Path, Text: p.Text})
		}
		return errs
	}
	if seen[v.Name] {
		errs = append(errs, &declaration.Problem{Path: place + ".name", Text: fmt.Sprintf("there are two of the name %s", v.Name)})
	}
	seen[v.Name] = true
	v.Image = declaration.ResolveImage(base, v.Image)
	if v.Overlay != "" {
		overlay, err := absolute(base, v.Overlay)
		if err != nil {
			errs = append(errs, fmt.Errorf("vm %s: %w", v.Name, err))
		}
		v.Overlay = overlay
	}
	if err := attachTo(&v.spec, v.Attachments, base); err != nil {
		errs = append(errs, fmt.Errorf("vm %s: %w", v.Name, err))
	}
	return errs
}
