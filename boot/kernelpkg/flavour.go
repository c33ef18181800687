package kernelpkg

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// A Flavour is where a guest kernel comes from.
type Flavour string

// The flavours, by preference.
const (
	Tuned  Flavour = "tuned"  // built for warder's guests, by package tuned
	Debian Flavour = "debian" // out of a package, as Install and Pull get it
)

// Flavours are all there are, the preferred one first.
var Flavours = []Flavour{Tuned, Debian}

// Known tells a flavour from any other word.
func (f Flavour) Known() bool { return slices.Contains(Flavours, f) }

// A MissingError is returned when there is no guest kernel.
type MissingError struct {
	Arch    string
	Flavour Flavour
}

func (e *MissingError) Error() string {
	if e.Flavour == Tuned {
		return fmt.Sprintf(`no tuned guest kernel for %s: run "warder kernel build --arch %s"`, e.Arch, e.Arch)
	}
	return fmt.Sprintf(`no guest kernel for %s: run "warder kernel pull --arch %s"`, e.Arch, e.Arch)
}

// Find returns Debian's guest kernel for arch that was installed last. Its error
// says how to get one.
func Find(arch string) (*Package, error) { return FindFlavour(arch, Debian) }

// FindFlavour returns the guest kernel of a flavour that was installed last.
func FindFlavour(arch string, f Flavour) (*Package, error) {
	if err := checkArch(arch); err != nil {
		return nil, err
	}
	all, err := list(arch)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.Flavour == f {
			return p, nil
		}
	}
	return nil, &MissingError{arch, f}
}

// Variable is the environment variable that names the flavour of Default.
const Variable = "WARDER_KERNEL"

// Default returns the guest kernel that guests run if nothing else is asked
// for: that of the flavour that $WARDER_KERNEL names, else the tuned one if
// there is one.
func Default(arch string) (p *Package, err error) {
	if f := Flavour(os.Getenv(Variable)); f != "" {
		if !f.Known() {
			return nil, fmt.Errorf("%s=%s: has to be one of %s", Variable, f, Flavours)
		}
		return FindFlavour(arch, f)
	}
	for _, f := range Flavours {
		p, err = FindFlavour(arch, f)
		if _, missing := errors.AsType[*MissingError](err); !missing {
			return p, err
		}
	}
	return nil, err
}
