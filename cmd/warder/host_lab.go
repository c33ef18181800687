package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// hostInLab is a command line of warder host for the inside of the lab.
type hostInLab struct {
	args  []string
	files []string // that it needs there, at the same paths
	env   []string // NAME=VALUE
}

func (l *hostInLab) take(files ...string) {
	for _, file := range files {
		if file != "" && !slices.Contains(l.files, file) { // VMs may share them
			l.files = append(l.files, file)
		}
	}
}

// inLab is the same command line for the inside of the lab. Images are made here, where
// what they are made of is.
func (f hostFlags) inLab(ctx context.Context, cfg hostConfig, getenv func(string) string) (*hostInLab, error) {
	l := &hostInLab{args: []string{"host", "--output=" + f.output}}
	if f.verbose {
		l.args = append(l.args, "--verbose")
	}
	if f.demo {
		l.args = append(l.args, "--demo")
	}
	if f.cgroup != "" {
		l.args = append(l.args, "--cgroup="+f.cgroup)
	}
	add := func(name, path string) {
		if path != "" {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
			l.args = append(l.args, "--"+name+"="+path)
			l.take(path)
		}
	}
	add("config", f.config)
	if path, ok := cfg.Kernel.file(); ok {
		add("kernel", path)
	} else if cfg.Kernel != "" {
		l.args = append(l.args, "--kernel="+string(cfg.Kernel))
	}
	add("rules", cfg.Rules)
	l.take(cfg.Patterns.files()...)
	l.take(cfg.Access.files()...)
	for _, from := range cfg.Secrets {
		switch kind, at, _ := strings.Cut(from, ":"); kind {
		case fromFile:
			l.take(at)
		case fromEnv:
			l.env = append(l.env, at+"="+getenv(at))
		}
	}
	slices.Sort(l.env)
	for _, v := range append(slices.Clone(cfg.VMs), cfg.Services...) {
		if err := l.takeFor(ctx, v, f.lab); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return l, nil
}

// takeFor takes along what a VM or service needs.
func (l *hostInLab) takeFor(ctx context.Context, v hostVM, arch string) error {
	if len(v.spec.Ports) > 0 {
		return errPortInLab
	}
	_, attached := attachedInLab(v.spec)
	l.take(attached...)
	if v.Image == "" {
		return nil
	}
	image, file, err := imageForLab(ctx, v.Image, arch)
	if err != nil {
		return err
	}
	if image != v.Image {
		l.args = append(l.args, "--image="+v.Name+"="+image)
	}
	l.take(file, v.Overlay)
	return nil
}
