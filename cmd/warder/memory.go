package main

import (
	"fmt"
	"strings"

	"warder/supervisor"
)

// A memory is a VM's memory on the command line and in files: a size, or two with
// a colon between them: what its guest is started with, and what it is given once
// it is up.
type memory struct{ start, most size }

func (m *memory) Type() string { return "size[:size]" }

func (m *memory) String() string {
	if m.most == 0 {
		return m.start.String()
	}
	return m.start.String() + ":" + m.most.String()
}

func (m *memory) Set(v string) error {
	var n memory
	start, most, two := strings.Cut(v, ":")
	if err := n.start.Set(start); err != nil {
		return err
	}
	if two {
		if err := n.most.Set(most); err != nil {
			return err
		}
		if n.most < n.start {
			return fmt.Errorf("%s: give the smaller size first", v)
		}
	}
	*m = n
	return nil
}

// grow gives a VM that is up the memory that it was not started with.
func grow(vm *supervisor.ServiceVM, spec supervisor.Spec) error {
	if spec.MemoryMax <= spec.Memory {
		return nil
	}
	return vm.Machine().SetMemory(spec.MemoryMax)
}
