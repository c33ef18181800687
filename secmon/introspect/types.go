package introspect

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// ErrNoBTF is the error for a kernel without type information.
var ErrNoBTF = errors.New("the kernel has no type information (BTF): it was built without CONFIG_DEBUG_INFO_BTF")

// maxBTF is several times what a kernel has.
const maxBTF = 32 << 20

// loadTypes decodes the image's BTF: a section of an ELF file, in an arm64
// Image what lies between two symbols.
func loadTypes(im *image, syms *Symbols) (*btf.Spec, error) {
	raw := im.btf
	if raw == nil {
		start, ok := syms.Lookup("__start_BTF")
		stop, ok2 := syms.Lookup("__stop_BTF")
		if !ok || !ok2 || stop.Addr <= start.Addr {
			return nil, ErrNoBTF
		}
		if raw = im.bytes(start.Addr, stop.Addr-start.Addr); raw == nil {
			return nil, fmt.Errorf("%w in its image", ErrNoBTF)
		}
	}
	if len(raw) > maxBTF {
		return nil, fmt.Errorf("kernel BTF: %d bytes, more than %d", len(raw), maxBTF)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("kernel BTF: %w", err)
	}
	return spec, nil
}

// A field says where a member of a structure lies.
type field struct {
	off  uint64 // bytes from the structure's start
	size uint64 // bytes
}

// in is the field's value in the bytes of its structure, 0 where they end before.
func (f field) in(structure []byte) uint64 {
	if f.off > uint64(len(structure)) || f.size > uint64(len(structure))-f.off {
		return 0
	}
	var p [8]byte
	copy(p[:], structure[f.off:f.off+f.size])
	return le.Uint64(p[:])
}

// fieldOf finds a member by a path such as "f_path.dentry". Members of
// anonymous structures and unions are found as in C. "" is the whole structure.
func fieldOf(spec *btf.Spec, typ, path string) (field, error) {
	var t btf.Type
	var s *btf.Struct
	if err := spec.TypeByName(typ, &s); err != nil {
		return field{}, fmt.Errorf("type struct %s: %w", typ, err)
	}
	t = s
	var f field
	if path == "" {
		return field{0, uint64(s.Size)}, nil
	}
	for name := range strings.SplitSeq(path, ".") {
		bits, member, ok := memberOf(t, name, 0)
		if !ok || bits%8 != 0 {
			return field{}, fmt.Errorf("struct %s has no member %s", typ, path)
		}
		f.off += uint64(bits / 8)
		t = btf.UnderlyingType(member)
	}
	size, err := btf.Sizeof(t)
	if err != nil {
		return field{}, fmt.Errorf("struct %s, member %s: %w", typ, path, err)
	}
	f.size = uint64(size)
	return f, nil
}

// maxNesting bounds anonymous members in anonymous members.
const maxNesting = 8

func memberOf(t btf.Type, name string, depth int) (btf.Bits, btf.Type, bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m.Offset, m.Type, m.BitfieldSize == 0
		}
		if m.Name == "" && depth < maxNesting {
			if off, typ, ok := memberOf(m.Type, name, depth+1); ok {
				return m.Offset + off, typ, true
			}
		}
	}
	return 0, nil, false
}

// layout holds where each member lies that we read, named as in the kernel:
// structure first.
type layout struct {
	taskPID, taskTGID, taskComm, taskParent, taskCred, taskFiles, taskFS, taskNamespaces field

	credUID, credEUID field

	fsRoot, fsPwd field // struct path in struct fs_struct

	filesTable, tableMax, tableFiles field

	filePath, fileInode, filePos, fileFlags field

	pathMount, pathDentry field

	dentryParent, dentryName, dentryNameHash, dentryInode, dentryHash field

	mountVFS, mountParent, mountPoint, mountChildren, mountChild, mountDevice field

	vfsRoot, vfsSuper field

	superType, fsTypeName field

	inodeMode, inodeNumber, inodeSize, inodeLink field

	bucketFirst, nodeNext field // hlist_bl_head, hlist_bl_node

	programFile, programName field // struct linux_binprm

	process processLayout
	socket  socketLayout

	currentTask field        // amd64 6.2 to 6.14: in the per-CPU struct pcpu_hot
	ptRegs      field        // struct pt_regs as a whole
	calls       [2]registers // by ABI
	pstate      field        // arm64: in struct pt_regs
	codeSegment field        // amd64: in struct pt_regs
}

// ABI is how a program passes a system call's arguments to the kernel.
type ABI uint8

const (
	Native ABI = iota
	Compat     // 32-bit programs on a 64-bit kernel
)

// registers says where struct pt_regs keeps a system call's arguments, in
// their order, and its number.
type registers struct {
	arg    [6]field
	number field
}

func newLayout(spec *btf.Spec, arch string) (*layout, error) {
	l := &layout{}
	want := []struct {
		to   *field
		typ  string
		path string
	}{
		{&l.taskPID, "task_struct", "pid"},
		{&l.taskTGID, "task_struct", "tgid"},
		{&l.taskComm, "task_struct", "comm"},
		{&l.taskParent, "task_struct", "real_parent"},
		{&l.taskCred, "task_struct", "cred"},
		{&l.taskFiles, "task_struct", "files"},
		{&l.taskFS, "task_struct", "fs"},
		{&l.taskNamespaces, "task_struct", "nsproxy"},
		{&l.credUID, "cred", "uid"},
		{&l.credEUID, "cred", "euid"},
		{&l.fsRoot, "fs_struct", "root"},
		{&l.fsPwd, "fs_struct", "pwd"},
		{&l.filesTable, "files_struct", "fdt"},
		{&l.tableMax, "fdtable", "max_fds"},
		{&l.tableFiles, "fdtable", "fd"},
		{&l.filePath, "file", "f_path"},
		{&l.fileInode, "file", "f_inode"},
		{&l.filePos, "file", "f_pos"},
		{&l.fileFlags, "file", "f_flags"},
		{&l.pathMount, "path", "mnt"},
		{&l.pathDentry, "path", "dentry"},
		{&l.dentryParent, "dentry", "d_parent"},
		{&l.dentryName, "dentry", "d_name.name"},
		{&l.dentryNameHash, "dentry", "d_name.hash_len"},
		{&l.dentryInode, "dentry", "d_inode"},
		{&l.dentryHash, "dentry", "d_hash"},
		{&l.mountVFS, "mount", "mnt"},
		{&l.mountParent, "mount", "mnt_parent"},
		{&l.mountPoint, "mount", "mnt_mountpoint"},
		{&l.mountChildren, "mount", "mnt_mounts"},
		{&l.mountChild, "mount", "mnt_child"},
		{&l.mountDevice, "mount", "mnt_devname"},
		{&l.vfsRoot, "vfsmount", "mnt_root"},
		{&l.vfsSuper, "vfsmount", "mnt_sb"},
		{&l.superType, "super_block", "s_type"},
		{&l.fsTypeName, "file_system_type", "name"},
		{&l.inodeMode, "inode", "i_mode"},
		{&l.inodeNumber, "inode", "i_ino"},
		{&l.inodeSize, "inode", "i_size"},
		{&l.inodeLink, "inode", "i_link"},
		{&l.bucketFirst, "hlist_bl_head", "first"},
		{&l.nodeNext, "hlist_bl_node", "next"},
		{&l.programFile, "linux_binprm", "file"},
		{&l.programName, "linux_binprm", "filename"},
		{&l.ptRegs, "pt_regs", ""},
	}
	add := func(to *field, path string) {
		want = append(want, struct {
			to        *field
			typ, path string
		}{to, "pt_regs", path})
	}
	switch arch {
	case "amd64":
		for i, name := range []string{"di", "si", "dx", "r10", "r8", "r9"} {
			add(&l.calls[Native].arg[i], name)
		}
		for i, name := range []string{"bx", "cx", "dx", "si", "di", "bp"} {
			add(&l.calls[Compat].arg[i], name)
		}
		add(&l.codeSegment, "cs")
		add(&l.calls[Native].number, "orig_ax")
		add(&l.calls[Compat].number, "orig_ax")
		// Where the kernel has no such structure, current_task is a variable.
		l.currentTask, _ = fieldOf(spec, "pcpu_hot", "current_task")
	case "arm64":
		regs, err := fieldOf(spec, "pt_regs", "regs")
		if err != nil {
			return nil, err
		}
		add(&l.pstate, "pstate")
		for abi := range l.calls {
			// The first argument's register is also that of the result.
			add(&l.calls[abi].arg[0], "orig_x0")
			for i := 1; i < 6; i++ {
				l.calls[abi].arg[i] = field{regs.off + 8*uint64(i), 8}
			}
			add(&l.calls[abi].number, "syscallno")
		}
	}
	for _, w := range want {
		f, err := fieldOf(spec, w.typ, w.path)
		if err != nil {
			return nil, err
		}
		*w.to = f
	}
	var err error
	if l.process, err = newProcessLayout(spec); err != nil {
		return nil, err
	}
	l.socket = newSocketLayout(spec)
	return l, nil
}
