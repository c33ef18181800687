// Package tuned builds the guest kernel that suits warder's guests: Debian's
// kernel source with a configuration that has built in what guests use, and
// leaves out what no machine of warder's has.
//
// The configuration is in config: what all architectures have in common, and
// what one alone has. Symbols that it does not name have the defaults that the
// kernel's authors gave them, so that mitigations and hardening are as upstream.
package tuned

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

//go:embed config/*.config
var configs embed.FS

// Fragment is the wanted part of the configuration for arch, "amd64" or
// "arm64", in the syntax of the kernel's .config.
func Fragment(arch string) ([]byte, error) {
	if _, ok := targets[arch]; !ok {
		return nil, fmt.Errorf("no tuned kernel for architecture %q: has to be amd64 or arm64", arch)
	}
	common, err := configs.ReadFile("config/common.config")
	if err != nil {
		return nil, err
	}
	own, err := configs.ReadFile("config/" + arch + ".config")
	if err != nil {
		return nil, err
	}
	return slices.Concat(common, own), nil
}

// Recipe names a fragment: kernels of the same recipe were asked for the same.
func Recipe(fragment []byte) string {
	sum := sha256.Sum256(fragment)
	return hex.EncodeToString(sum[:])
}

// Unmet returns the lines of a fragment that a complete configuration does not
// fulfil: Kconfig drops a symbol without a word when what it depends on is off,
// and keeps one that something else selects.
func Unmet(fragment, config []byte) (lines []string) {
	got := parse(config)
	for line := range strings.Lines(string(fragment)) {
		line = strings.TrimSpace(line)
		name, value, ok := symbol(line)
		if ok && got[name] != value {
			lines = append(lines, line)
		}
	}
	return lines
}

// parse reads a .config: values by symbol, without those that are off.
func parse(config []byte) map[string]string {
	values := make(map[string]string)
	for line := range bytes.Lines(config) {
		if name, value, ok := symbol(strings.TrimSpace(string(line))); ok && value != "" {
			values[name] = value
		}
	}
	return values
}

// symbol reads a line "CONFIG_X=value" or "# CONFIG_X is not set", whose value
// is empty.
func symbol(line string) (name, value string, ok bool) {
	const prefix = "CONFIG_"
	if off, found := strings.CutPrefix(line, "# "); found {
		name, found = strings.CutSuffix(off, " is not set")
		return name, "", found && strings.HasPrefix(name, prefix)
	}
	name, value, ok = strings.Cut(line, "=")
	return name, value, ok && strings.HasPrefix(name, prefix)
}
