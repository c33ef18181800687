package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"warder/secmon/introspect"
)

// subjects are what warder inspect shows.
func subjects() []subject {
	return []subject{
		list("ps", "processes", "PID\tPPID\tUID\tS\tCPU\tSTART\tCGROUP\tCOMMAND", processRow),
		{"tree", "", "processes below their parents", tree},
		list("modules", "kernel modules", "NAME\tSIZE\tUSED\tBY\tSTATE\tBASE", moduleRow),
		ofPID("files", "open files of a process", "FD\tMODE\tKIND\tINODE\tPOS\tNAME", fileRow),
		ofPID("maps", "memory map of a process", "ADDRESSES\tPERMS\tOFFSET\tDEV\tINODE\tNAME", mapRow),
		list("sockets", "TCP, UDP and Unix sockets, with who has them open", "PROTO\tSTATE\tLOCAL\tREMOTE\tUID\tINODE\tOWNERS", socketRow),
		ofPID("mounts", "mounts that a process sees", "ID\tPARENT\tTARGET\tFS\tSOURCE\tOPTIONS", mountRow),
		list("syscalls", "tables of system calls", "NR\tABI\tNAME\tHANDLER\tSYMBOL", syscallRow),
		vectors("idt"),
		vectors("vectors"),
		list("lsm", "hooks of security modules", "HOOK\tLSM\tHANDLER\tSYMBOL", hookRow),
		list("kallsyms", "symbols of the kernel and its modules, where they are", "ADDRESS\tTYPE\tNAME\tMODULE", symbolRow),
		{"read", "ADDR|SYMBOL [LENGTH]", "memory of the kernel, or with --pid of a process", readMemory},
		{"write", "ADDR|SYMBOL BYTES", "change it: BYTES in hexadecimal", writeMemory},
		{"struct", "TYPE ADDR|SYMBOL [PATH]", "a structure, decoded; PATH as parent.cred->uid or cpus[1]", structure},
		{"diff", "", "what the guest's own /proc hides, or makes up", differences},
		{"symbols", "FILE", "write the symbols of kallsyms as an ELF file, for GDB", writeSymbols},
		{"gdb", "[ADDRESS]", "let GDB debug the kernel, by its standard input and output or at an address", debugGuest},
		{"dump", "FILE", "write memory and registers as an ELF core file, - for standard output", dump},
	}
}

// line joins the cells of a row. What a guest named is stripped of what a
// terminal would obey.
func line(cells ...any) string {
	var b strings.Builder
	for i, c := range cells {
		if i > 0 {
			b.WriteByte('\t')
		}
		b.WriteString(strings.ReplaceAll(printable(fmt.Sprint(c)), "\t", " "))
	}
	return b.String()
}

func hiddenMark(hidden bool) string {
	if hidden {
		return "HIDDEN "
	}
	return ""
}

func command(p introspect.ProcessInfo) string {
	switch {
	case p.Kernel:
		return "[" + p.Comm + "]"
	case len(p.Args) == 0:
		return p.Comm
	}
	return strings.Join(p.Args, " ")
}

func processRow(p introspect.ProcessInfo) string {
	cpu := fmt.Sprint(p.CPU)
	if p.OnCPU {
		cpu += "*"
	}
	start := time.Duration(p.Started * float64(time.Second)).Round(10 * time.Millisecond)
	return line(p.PID, p.PPID, p.UID, p.State, cpu, start, p.Cgroup, hiddenMark(p.Hidden)+command(p))
}

// tree prints the processes, each below its parent. One whose parent is not
// among them is at the top.
func tree(ctx context.Context, v *inspection) error {
	if v.json {
		return show(ctx, v, "ps", nil, "", processRow)
	}
	all, err := items[introspect.ProcessInfo](ctx, v, "ps", nil)
	if err != nil {
		return err
	}
	known := make(map[int]bool)
	for _, p := range all {
		known[p.PID] = true
	}
	children := make(map[int][]introspect.ProcessInfo)
	for _, p := range all {
		parent := p.PPID
		if !known[parent] || parent == p.PID {
			parent = 0
		}
		children[parent] = append(children[parent], p)
	}
	printed := make(map[int]bool) // a guest can have made a circle
	var walk func(pid int, indent string)
	walk = func(pid int, indent string) {
		for _, p := range children[pid] {
			if printed[p.PID] {
				continue
			}
			printed[p.PID] = true
			fmt.Fprintf(v.out, "%s%d %s\n", indent, p.PID, line(hiddenMark(p.Hidden)+command(p)))
			walk(p.PID, indent+"  ")
		}
	}
	walk(0, "")
	for _, p := range all {
		if !printed[p.PID] {
			walk(p.PPID, "")
		}
	}
	return nil
}

func moduleRow(m introspect.ModuleInfo) string {
	return line(hiddenMark(m.Hidden)+m.Name, m.Size, m.Refs, strings.Join(m.UsedBy, ","), m.State, m.Base)
}

func fileRow(f introspect.FileInfo) string {
	name := f.Name
	if f.Missing {
		name = "(not in memory)"
	}
	return line(f.FD, f.Mode, f.Kind, f.Inode, f.Pos, name)
}

func mapRow(m introspect.MapInfo) string {
	return line(fmt.Sprintf("%x-%x", uint64(m.Start), uint64(m.End)), m.Perms, fmt.Sprintf("%x", m.Offset), m.Device, m.Inode, m.Name)
}

func socketRow(s introspect.SocketInfo) string {
	var owners []string
	for _, o := range s.Owners {
		owners = append(owners, fmt.Sprintf("%s(%d):%d", o.Comm, o.PID, o.FD))
	}
	return line(hiddenMark(s.Hidden)+s.Proto, s.State, s.Local, s.Remote, s.UID, s.Inode, strings.Join(owners, ","))
}

func mountRow(m introspect.MountInfo) string {
	return line(m.ID, m.Parent, m.Target, m.FS, m.Source, m.Options)
}

func suspectMark(why string) string {
	if why == "" {
		return ""
	}
	return "  <-- SUSPECT: " + why
}

func syscallRow(s introspect.SyscallInfo) string {
	return line(s.Number, s.ABI, s.Name, s.Handler, s.Symbol+suspectMark(s.Suspect))
}

// vectors is the same on both architectures, by the name that each has for it.
func vectors(name string) subject {
	help := "where CPUs go on exceptions and interrupts: vectors of arm64"
	if name == "idt" {
		help = "the same by the name that it has on amd64"
	}
	s := list("vectors", help, "VECTOR\tHANDLER\tUSER\tCPUS\tSYMBOL", vectorRow)
	s.name = name
	return s
}

func vectorRow(v introspect.VectorInfo) string {
	return line(v.Name, v.Handler, v.User, strings.Trim(fmt.Sprint(v.CPUs), "[]"), v.Symbol+suspectMark(v.Suspect))
}

func hookRow(h introspect.HookInfo) string {
	return line(h.Hook, h.LSM, h.Handler, h.Symbol+suspectMark(h.Suspect))
}

func symbolRow(s introspect.SymbolInfo) string { return line(s.Addr, s.Type, s.Name, s.Module) }

// differences prints what the guest says of itself that its memory contradicts.
func differences(ctx context.Context, v *inspection) error {
	if len(v.args) > 0 {
		return fmt.Errorf("diff takes no argument %q", v.args[0])
	}
	return showAt(ctx, v, "/diff", nil, "KIND\tID\tNAME\tWHAT", func(d introspect.Difference) string {
		what := "HIDDEN from the guest's own view"
		if d.From == "host" {
			what = "the guest shows it, its memory does not have it"
		}
		return line(d.Kind, d.ID, d.Name, what)
	})
}

// dump writes the VM's memory to a file, of which nothing is left when it fails.
func dump(ctx context.Context, v *inspection) error {
	if len(v.args) != 1 {
		return fmt.Errorf("dump to which file? give one, or - for standard output")
	}
	query := url.Values{}
	if v.pause {
		query.Set("pause", "1")
	}
	if v.args[0] == "-" {
		_, err := v.vm.Copy(ctx, "/dump", query, v.out)
		return err
	}
	f, err := os.OpenFile(v.args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := v.vm.Copy(ctx, "/dump", query, f)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(v.args[0])
		return fmt.Errorf("dump: %w", err)
	}
	fmt.Fprintf(v.out, "%s: %s\n", v.args[0], humanize.IBytes(uint64(n)))
	return nil
}
