package vmcore

import (
	"bytes"
	"fmt"
)

// Types of notes (include/uapi/linux/elf.h).
const (
	noteStatus = 1 // NT_PRSTATUS
	noteInfo   = 0
)

// general are the registers of struct user_regs_struct, in its order, as
// vmm.Register names them; "" for one that is not known.
var general = map[string][]string{
	"amd64": {
		"r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
		"", "rip", "cs", "rflags", "rsp", "ss", "fsbase", "gsbase", "", "", "", "",
	},
	"arm64": {
		"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
		"x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
		"sp", "pc", "pstate",
	},
}

// struct elf_prstatus (include/linux/elfcore.h): what is before the registers,
// with the process's number, and behind them, a word that says whether there
// are floating-point registers.
const (
	statusPID    = 32
	statusBefore = 112
	statusAfter  = 8
)

func (c *Core) notes() ([]byte, error) {
	var b bytes.Buffer
	names := general[c.Arch]
	for id, regs := range c.CPUs {
		status := make([]byte, statusBefore+8*len(names)+statusAfter)
		// Tools want different numbers; kdump's are those of the tasks, which a
		// CPU does not know.
		le.PutUint32(status[statusPID:], uint32(id+1))
		for i, name := range names {
			if name == "" {
				continue
			}
			v, ok := regs[name]
			if !ok {
				return nil, fmt.Errorf("vCPU %d: register %s is not known", id, name)
			}
			le.PutUint64(status[statusBefore+8*i:], v)
		}
		note(&b, "CORE", noteStatus, status)
	}
	if c.Info != nil {
		note(&b, "VMCOREINFO", noteInfo, c.Info)
	}
	return b.Bytes(), nil
}

// note appends a note: lengths and type, the name with its NUL, the content,
// each padded to 4 bytes.
func note(b *bytes.Buffer, name string, typ uint32, content []byte) {
	var head [12]byte
	le.PutUint32(head[0:], uint32(len(name)+1))
	le.PutUint32(head[4:], uint32(len(content)))
	le.PutUint32(head[8:], typ)
	b.Write(head[:])
	b.WriteString(name)
	b.WriteByte(0)
	pad(b)
	b.Write(content)
	pad(b)
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
