package introspect

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"warder/devices/guestmem"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// land is the memory of a whole guest with paging off, in which a test makes
// the structures that walks of a live guest follow. They are laid out as Debian's
// Linux 6.12 for amd64 has them: testdata/members-amd64.txt.
type land struct {
	t      testing.TB
	mem    *guestmem.Memory
	bytes  []byte
	next   uint64
	fields *fields
	vars   map[string]uint64
	live   *Live
	init   uint64 // the first task, which is no process
	pids   uint64 // how many numbers are taken
	text   uint64 // where its code would be, behind all else
}

const (
	landBase = 0x10_0000
	landSize = 1 << 20
)

func (l *land) CPUs() int                { return 1 }
func (l *land) Memory() *guestmem.Memory { return l.mem }

func (l *land) OnCPU(_ int, f func(CPU) error) error { return f(l) }

func (l *land) AddressSpace() (pagetable.Space, error) { return pagetable.AMD64{}.Space(), nil }
func (l *land) SyscallEntry() (uint64, error)          { return l.text, nil }
func (l *land) Report() *vmm.Report {
	return &vmm.Report{Registers: []vmm.Register{{Name: "idt", Value: l.vars["idt_table"]}}}
}

const membersFile = "testdata/members-amd64.txt"

// readMembers reads a table of members: name, offset, size.
func readMembers(t testing.TB) *fields {
	t.Helper()
	f, err := os.Open(membersFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	known := make(map[string]lookup)
	for s := bufio.NewScanner(f); s.Scan(); {
		var name string
		var l lookup
		if _, err := fmt.Sscan(s.Text(), &name, &l.off, &l.size); err != nil {
			t.Fatalf("%s: %q: %v", membersFile, s.Text(), err)
		}
		known[strings.TrimSuffix(name, ".")] = l
	}
	return &fields{known: known}
}

func newLand(t testing.TB) *land {
	t.Helper()
	return newLandOf(t, landSize)
}

func newLandOf(t testing.TB, size int) *land {
	t.Helper()
	b := make([]byte, size)
	mem, err := guestmem.New(guestmem.Region{Base: landBase, Bytes: b})
	if err != nil {
		t.Fatal(err)
	}
	l := &land{t: t, mem: mem, bytes: b, next: landBase + 64, fields: readMembers(t), vars: make(map[string]uint64), text: landBase + uint64(size) - 0x1_0000}
	for name, size := range map[string]uint64{
		"init_task": 16384, "init_pid_ns": 512, "__per_cpu_offset": 64, "runqueues": 8192, "modules": 16, "module_kset": 8,
		"tcp_hashinfo": 512, "udp_table": 64, "net_namespace_list": 16, "sys_call_table": 8 * 16, "idt_table": 4096,
	} {
		l.vars[name] = l.alloc(size)
	}
	l.vars["_stext"], l.vars["_etext"] = l.text, l.text+0x8000
	var syms []Symbol
	for name, at := range l.vars {
		syms = append(syms, Symbol{name, 'D', at + startKernelMap})
	}
	syms = append(syms, Symbol{"__x64_sys_read", 'T', l.text + startKernelMap}, Symbol{"behind", 'D', l.vars["sys_call_table"] + 8*16 + startKernelMap})
	sortSymbols(syms)
	k := &Kernel{arch: "amd64", symbols: newSymbols(syms), layout: l.layout(), fields: l.fields}
	l.live = &Live{&Guest{Kernel: k, slide: ^uint64(startKernelMap) + 1}, l, pagetable.AMD64{}.Space()}
	l.init = l.vars["init_task"]
	for _, head := range []uint64{l.vars["modules"], l.vars["net_namespace_list"], l.init + l.off("task_struct.tasks"), l.init + l.off("task_struct.children"), l.vars["runqueues"] + l.off("rq.cfs_tasks")} {
		l.head(head)
	}
	kset := l.alloc(64)
	l.put(l.vars["module_kset"], kset)
	l.head(kset + l.off("kset.list"))
	l.set("task_struct.group_leader", l.init, l.init)
	l.set("rq.curr", l.vars["runqueues"], l.init)
	l.table("inet_hashinfo.ehash", "inet_hashinfo.ehash_mask", l.vars["tcp_hashinfo"], 4*16)
	l.table("inet_hashinfo.lhash2", "inet_hashinfo.lhash2_mask", l.vars["tcp_hashinfo"], 4*16)
	l.table("udp_table.hash", "udp_table.mask", l.vars["udp_table"], 4*16)
	return l
}

// layout is what the older walks go by, from the same table.
func (l *land) layout() *layout {
	y := testLayout()
	for to, name := range map[*field]string{
		&y.filePath: "file.f_path", &y.pathMount: "path.mnt", &y.pathDentry: "path.dentry", &y.dentryParent: "dentry.d_parent",
		&y.dentryName: "dentry.d_name.name", &y.dentryNameHash: "dentry.d_name.hash_len", &y.dentryInode: "dentry.d_inode",
		&y.mountVFS: "mount.mnt", &y.mountParent: "mount.mnt_parent", &y.mountPoint: "mount.mnt_mountpoint", &y.mountDevice: "mount.mnt_devname",
		&y.vfsRoot: "vfsmount.mnt_root", &y.vfsSuper: "vfsmount.mnt_sb", &y.superType: "super_block.s_type", &y.fsTypeName: "file_system_type.name",
	} {
		f, err := l.fields.get(name)
		if err != nil {
			l.t.Fatal(err)
		}
		*to = f
	}
	return y
}

func (l *land) alloc(n uint64) uint64 {
	at := (l.next + 255) &^ 255
	if l.next = at + n; l.next > l.text {
		l.t.Fatal("the land is full")
	}
	return at
}

func (l *land) off(name string) uint64 {
	l.t.Helper()
	f, err := l.fields.get(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return f.off
}

func (l *land) put(at, v uint64) { le.PutUint64(l.bytes[at-landBase:], v) }

func (l *land) get(at uint64) uint64 { return le.Uint64(l.bytes[at-landBase:]) }

// set fills in a member of the structure at an address.
func (l *land) set(name string, at, v uint64) {
	l.t.Helper()
	f, err := l.fields.get(name)
	if err != nil {
		l.t.Fatal(err)
	}
	var p [8]byte
	le.PutUint64(p[:], v)
	copy(l.bytes[at+f.off-landBase:], p[:min(f.size, 8)])
}

func (l *land) str(s string) uint64 {
	at := l.alloc(uint64(len(s)) + 1)
	copy(l.bytes[at-landBase:], s)
	return at
}

func (l *land) head(at uint64) { l.put(at, at); l.put(at+8, at) }

// add puts a node at the end of a list.
func (l *land) add(head, node uint64) {
	last := l.get(head + 8)
	l.put(last, node)
	l.put(node+8, last)
	l.put(node, head)
	l.put(head+8, node)
}

// unlink takes a node off a list, as a rootkit does.
func (l *land) unlink(node uint64) {
	next, prev := l.get(node), l.get(node+8)
	l.put(prev, next)
	l.put(next+8, prev)
	l.head(node)
}

func (l *land) table(hash, mask string, at, size uint64) {
	l.set(hash, at, l.alloc(size))
	l.set(mask, at, 3)
}

// task makes a process in all places where the kernel has it.
func (l *land) task(pid, parent uint64, comm string) uint64 {
	t := l.alloc(16384)
	l.set("task_struct.tgid", t, pid)
	l.set("task_struct.group_leader", t, t)
	l.set("task_struct.real_parent", t, parent)
	copy(l.bytes[t+l.off("task_struct.comm")-landBase:], comm)
	signal, cred, files, fdt := l.alloc(1024), l.alloc(256), l.alloc(256), l.alloc(64)
	l.set("signal_struct.nr_threads", signal, 1)
	l.set("task_struct.signal", t, signal)
	l.set("task_struct.cred", t, cred)
	l.set("cred.user_ns", cred, l.alloc(1024))
	l.set("task_struct.files", t, files)
	l.set("files_struct.fdt", files, fdt)
	l.set("fdtable.max_fds", fdt, 8)
	l.set("fdtable.fd", fdt, l.alloc(64))
	l.head(t + l.off("task_struct.children"))
	l.add(l.init+l.off("task_struct.tasks"), t+l.off("task_struct.tasks"))
	l.add(parent+l.off("task_struct.children"), t+l.off("task_struct.sibling"))
	number := l.alloc(256)
	l.put(number+l.off("pid.tasks")+8*pidTypeTGID, t+l.off("task_struct.pid_links")+16*pidTypeTGID)
	l.numbers(number)
	return t
}

// numbers puts a struct pid into the table.
func (l *land) numbers(pid uint64) {
	l.put(l.slot(l.pids), pid)
	l.pids++
}

// slot is the place of a number in the table, which has two levels.
func (l *land) slot(i uint64) uint64 {
	at := l.vars["init_pid_ns"] + l.off("pid_namespace.idr") + l.off("idr.idr_rt") + l.off("xarray.xa_head")
	for _, index := range []uint64{i / 64, i % 64} {
		if l.get(at) == 0 {
			l.put(at, l.alloc(1024)+2)
		}
		at = l.get(at) - 2 + l.off("xa_node.slots") + 8*index
	}
	return at
}

func (l *land) module(name string) uint64 {
	m, kobj := l.alloc(2048), l.alloc(256)
	copy(l.bytes[m+l.off("module.name")-landBase:], name)
	l.set("module.refcnt.counter", m, 1)
	l.head(m + l.off("module.source_list"))
	l.add(l.vars["modules"], m+l.off("module.list"))
	l.set("module_kobject.mod", kobj, m)
	l.add(l.get(l.vars["module_kset"])+l.off("kset.list"), kobj+l.off("module_kobject.kobj")+l.off("kobject.entry"))
	return m
}

// socket makes a UDP socket on a port that a process has open.
func (l *land) socket(task, fd, port uint64, listed bool) uint64 {
	sock, file, holder := l.alloc(1024), l.alloc(256), l.alloc(1024)
	socket := holder + l.off("socket_alloc.socket")
	l.set("sock_common.skc_family", sock, familyIPv4)
	l.set("sock_common.skc_state", sock, tcpClose)
	l.set("sock_common.skc_num", sock, port)
	l.set("sock.sk_protocol", sock, protoUDP)
	l.set("sock.sk_socket", sock, socket)
	l.set("socket.sk", socket, sock)
	inode := holder + l.off("socket_alloc.vfs_inode.i_ino") - l.off("inode.i_ino")
	l.set("inode.i_mode", inode, 0o140777)
	l.set("inode.i_ino", inode, 4000+port)
	l.set("file.f_inode", file, inode)
	l.set("file.private_data", file, socket)
	fds := l.get(l.get(l.get(task+l.off("task_struct.files"))+l.off("files_struct.fdt")) + l.off("fdtable.fd"))
	l.put(fds+8*fd, file)
	if listed {
		bucket := l.get(l.vars["udp_table"]+l.off("udp_table.hash")) + 16*(port%4) + l.off("udp_hslot.head")
		node := sock + l.off("sock.__sk_common.skc_node")
		l.put(node, l.get(bucket))
		l.put(bucket, node)
	}
	return sock
}

func sortSymbols(s []Symbol) {
	for i := range s {
		for j := i; j > 0 && s[j].Addr < s[j-1].Addr; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

// mapped gives a process a memory map: a maple tree of two levels.
func (l *land) mapped(task uint64) (areas []uint64) {
	mm := l.alloc(2048)
	l.set("task_struct.mm", task, mm)
	l.set("mm_struct.pgd", mm, landBase)
	args := l.str("prog\x00-x")
	l.set("mm_struct.arg_start", mm, args)
	l.set("mm_struct.arg_end", mm, args+8)
	root, leaf := l.alloc(256), [2]uint64{l.alloc(256), l.alloc(256)}
	l.put(mm+l.off("mm_struct.mm_mt")+l.off("maple_tree.ma_root"), root|mapleAlloc<<3|2)
	for i, n := range leaf {
		l.put(root+l.off("maple_arange_64.slot")+8*uint64(i), n|mapleLeaf<<3)
		l.put(root+l.off("maple_arange_64.pivot")+8*uint64(i), [2]uint64{0x5fff, ^uint64(0)}[i])
		for j := range uint64(2) {
			vma := l.alloc(256)
			start := 0x4000 + uint64(i)*0x2000 + j*0x1000
			l.set("vm_area_struct.vm_start", vma, start)
			l.set("vm_area_struct.vm_end", vma, start+0x1000)
			l.set("vm_area_struct.vm_flags", vma, vmRead|vmExec)
			l.put(n+l.off("maple_range_64.slot")+8*(j+1), vma)
			l.put(n+l.off("maple_range_64.pivot")+8*j, start-1)
			areas = append(areas, vma)
		}
		l.put(n+l.off("maple_range_64.pivot")+16, [2]uint64{0x5fff, 0x7fff}[i])
	}
	return areas
}

// mounted gives a process a namespace with one mount in another.
func (l *land) mounted(task uint64) {
	proxy, ns := l.alloc(256), l.alloc(512)
	l.set("task_struct.nsproxy", task, proxy)
	l.set("nsproxy.mnt_ns", proxy, ns)
	var outer uint64
	for i, typ := range []string{"rootfs", "tmpfs"} {
		m, super, kind, root := l.alloc(512), l.alloc(2048), l.alloc(256), l.alloc(512)
		l.set("file_system_type.name", kind, l.str(typ))
		l.set("super_block.s_type", super, kind)
		l.set("dentry.d_parent", root, root)
		l.set("dentry.d_name.hash_len", root, 1<<32)
		l.set("dentry.d_name.name", root, l.str("/"))
		vfs := m + l.off("mount.mnt")
		l.set("vfsmount.mnt_root", vfs, root)
		l.set("vfsmount.mnt_sb", vfs, super)
		l.set("mount.mnt_id", m, uint64(i+1))
		l.head(m + l.off("mount.mnt_mounts"))
		l.set("mount.mnt_parent", m, m)
		if i == 0 {
			l.set("mnt_namespace.root", ns, m)
			outer = m
			continue
		}
		dir := l.alloc(512)
		l.set("dentry.d_parent", dir, l.get(outer+l.off("mount.mnt")+l.off("vfsmount.mnt_root")))
		l.set("dentry.d_name.hash_len", dir, 3<<32)
		l.set("dentry.d_name.name", dir, l.str("tmp"))
		l.set("mount.mnt_parent", m, outer)
		l.set("mount.mnt_mountpoint", m, dir)
		l.add(outer+l.off("mount.mnt_mounts"), m+l.off("mount.mnt_child"))
	}
}

// unixTable makes a network namespace without Unix sockets.
func (l *land) unixTable() {
	net := l.alloc(4096)
	l.set("net.unx.table.buckets", net, l.alloc(8*unixBuckets))
	l.add(l.vars["net_namespace_list"], net+l.off("net.list"))
}
