package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml"

	"warder/supervisor"
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
	// Cgroup is the group that warder moves into. Overcommit lets VMs start that
	// may use more memory together than there is.
	Cgroup     string `yaml:"cgroup"`
	Overcommit bool   `yaml:"overcommit"`

	shipped string // a file of the shipped rules to use alone
}

// hostVM is one service VM of it.
type hostVM struct {
	Name     string   `yaml:"name"`
	CPUs     int      `yaml:"cpus"`
	Memory   string   `yaml:"memory"`
	Watchdog string   `yaml:"watchdog"`
	Command  []string `yaml:"command"`

	Attached attachments `yaml:",inline"`

	CPUWeight int     `yaml:"cpu_weight"`
	CPUMax    float64 `yaml:"cpu_max"`

	memory memory
	spec   supervisor.Spec // what is attached, parsed
}

// load reads the configuration that the flags name, all paths absolute.
func (f hostFlags) load() (cfg hostConfig, err error) {
	base := "."
	if f.config != "" {
		src, err := os.ReadFile(f.config)
		if err != nil {
			return cfg, err
		}
		if err := yaml.UnmarshalWithOptions(src, &cfg, yaml.Strict()); err != nil {
			return cfg, fmt.Errorf("%s: %s", f.config, yaml.FormatError(err, false, true))
		}
		base = filepath.Dir(f.config)
		if err := cfg.check(base); err != nil {
			return cfg, fmt.Errorf("%s: %w", f.config, err)
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
	if err == nil && cfg.Snapshots != "" {
		cfg.Snapshots, err = absolute(base, cfg.Snapshots)
	}
	if f.cgroup != "" {
		cfg.Cgroup = f.cgroup
	}
	return cfg, err
}

// absolute is a path of a configuration file that is in the directory base.
func absolute(base, path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	return filepath.Abs(filepath.Join(base, path))
}

// vmName is a name that is good as a hostname and in a line of output.
var vmName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *hostConfig) check(base string) error {
	if len(c.VMs) == 0 {
		return errors.New("no VMs: give a list under vms")
	}
	if err := c.Patterns.check(base); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for i := range c.VMs {
		v := &c.VMs[i]
		if !vmName.MatchString(v.Name) {
			return fmt.Errorf("vm %d: name %q: give letters a to z, digits, - inside", i+1, v.Name)
		}
		if seen[v.Name] {
			return fmt.Errorf("vm %s: there are two of that name", v.Name)
		}
		seen[v.Name] = true
		if v.CPUs < 0 {
			return fmt.Errorf("vm %s: cpus: %d", v.Name, v.CPUs)
		}
		if v.Memory != "" {
			if err := v.memory.Set(v.Memory); err != nil {
				return fmt.Errorf("vm %s: memory %s: %w", v.Name, v.Memory, err)
			}
		}
		if err := v.Attached.addTo(&v.spec, base); err != nil {
			return fmt.Errorf("vm %s: %w", v.Name, err)
		}
	}
	return nil
}

// inLab is the same command line for the inside of the lab, and the files that
// it needs there.
func (f hostFlags) inLab(cfg hostConfig) (args, files []string, err error) {
	args = []string{"host", "--output=" + f.output}
	if f.verbose {
		args = append(args, "--verbose")
	}
	if f.demo {
		args = append(args, "--demo")
	}
	if f.cgroup != "" {
		args = append(args, "--cgroup="+f.cgroup)
	}
	add := func(name, path string) {
		if path != "" {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
			args, files = append(args, "--"+name+"="+path), append(files, path)
		}
	}
	add("config", f.config)
	if path, ok := cfg.Kernel.file(); ok {
		add("kernel", path)
	} else if cfg.Kernel != "" {
		args = append(args, "--kernel="+string(cfg.Kernel))
	}
	add("rules", cfg.Rules)
	files = append(files, cfg.Patterns.files()...)
	for _, v := range cfg.VMs {
		if len(v.spec.Ports) > 0 {
			return nil, nil, fmt.Errorf("vm %s: %w", v.Name, errPortInLab)
		}
		_, attached := attachedInLab(v.spec)
		for _, file := range attached {
			if !slices.Contains(files, file) { // VMs may share them
				files = append(files, file)
			}
		}
	}
	return args, files, nil
}
