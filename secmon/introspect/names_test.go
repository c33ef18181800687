package introspect

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// members are all that the walks ask a kernel's types for, where they do not ask
// first whether the kernel has it.
var members = []string{
	"task_struct.tasks", "task_struct.tgid", "task_struct.comm", "task_struct.signal", "signal_struct.nr_threads",
	"task_struct.group_leader", "task_struct.real_parent", "task_struct.cred", "cred.uid.val", "cred.euid.val",
	"task_struct.exit_state", "task_struct.on_cpu", "task_struct.flags", "task_struct.mm", "mm_struct.exe_file",
	"mm_struct.arg_start", "mm_struct.arg_end", "mm_struct.pgd", "task_struct.pid_links", "pid.tasks",
	"pid_namespace.idr", "idr.idr_rt", "xarray.xa_head", "xa_node.slots", "task_struct.children", "task_struct.sibling",
	"rq.curr", "rq.cfs_tasks", "task_struct.se.group_node", "task_struct.cgroups", "css_set.dfl_cgrp", "cgroup.kn",
	"kernfs_node.name", "task_struct.nsproxy", "nsproxy.mnt_ns", "mnt_namespace.ns.inum", "cred.user_ns", "user_namespace.ns.inum",
	"module.kallsyms", "mod_kallsyms.num_symtab", "mod_kallsyms.symtab", "mod_kallsyms.strtab", "mod_kallsyms.typetab",
	"module.name", "module.list", "module.state", "module.refcnt.counter", "module.taints", "module.source_list",
	"module_use.source_list", "module_use.source", "kset.list", "kobject.entry", "module_kobject.kobj", "module_kobject.mod",
	"mnt_namespace.root", "mount.mnt_id", "mount.mnt", "vfsmount.mnt_flags", "vfsmount.mnt_sb", "super_block.s_dev", "super_block.s_flags",
	"mount.mnt_mounts", "mount.mnt_child", "mount.mnt_parent",
	"task_struct.files", "files_struct.fdt", "fdtable.max_fds", "fdtable.fd", "file.f_inode", "file.f_flags", "file.f_pos",
	"inode.i_ino", "inode.i_mode", "inode.i_sb", "dentry.d_hash", "hlist_bl_node.pprev", "dentry.d_parent",
	"vm_area_struct.vm_start", "vm_area_struct.vm_end", "vm_area_struct.vm_flags", "vm_area_struct.vm_pgoff", "vm_area_struct.vm_file",
	"mm_struct.brk", "mm_struct.start_brk", "mm_struct.start_stack",
	"inet_hashinfo.ehash", "inet_hashinfo.ehash_mask", "inet_hashinfo.lhash2", "inet_hashinfo.lhash2_mask", "inet_ehash_bucket.",
	"sock.__sk_common", "sock.__sk_common.skc_nulls_node", "sock.__sk_common.skc_node", "udp_table.hash", "udp_table.mask", "udp_hslot.head",
	"sock_common.skc_family", "sock_common.skc_state", "sock_common.skc_net.net", "sock_common.skc_daddr", "sock_common.skc_rcv_saddr",
	"sock_common.skc_v6_daddr", "sock_common.skc_v6_rcv_saddr", "sock_common.skc_dport", "sock_common.skc_num",
	"sock.sk_protocol", "sock.sk_type", "sock.sk_uid.val", "sock.sk_socket", "socket_alloc.socket", "socket_alloc.vfs_inode.i_ino",
	"unix_sock.addr", "unix_address.len", "unix_address.name", "socket.sk", "file.private_data", "net.list",
}

// choices are members of which a kernel has one.
var choices = [][]string{
	{"task_struct.start_boottime", "task_struct.real_start_time"},
	{"task_struct.thread_info.cpu", "task_struct.cpu"},
	{"task_struct.__state", "task_struct.state"},
	{"kernfs_node.id", "kernfs_node.id.id"},
	{"kernfs_node.parent", "kernfs_node.__parent"},
	{"module.mem", "module.core_layout"},
	{"mm_struct.mmap", "mm_struct.mm_mt"},
	{"inet_connection_sock.icsk_listen_portaddr_node", "inet_listen_hashbucket.nulls_head"},
	{"net.unx.table.buckets", "unix_sock.addr"},
}

var variables = []string{
	"init_task", "init_pid_ns", "__per_cpu_offset", "tcp_hashinfo", "udp_table", "net_namespace_list",
}

// unexported are variables that a kernel without CONFIG_KALLSYMS_ALL does not tell
// of. Walks do without them, and say so.
var unexported = []string{"runqueues", "module_kset"}

func TestRealKernelsHaveWhatWalksNeed(t *testing.T) {
	realKernels(t, func(t *testing.T, k *Kernel, _ *image) {
		_, modular := k.symbols.Lookup("modules") // a tuned kernel loads none
		for _, m := range members {
			if strings.HasPrefix(m, "mod") && !modular {
				continue
			}
			if f, err := k.fields.get(m); err != nil || f.size == 0 && m != "unix_address.name" {
				t.Errorf("%s: %+v, %v", m, f, err)
			}
		}
		for _, c := range choices {
			found := false
			for _, m := range c {
				found = found || k.has(m)
			}
			if !found && (modular || c[0] != "module.mem") {
				t.Errorf("none of %v", c)
			}
		}
		for _, v := range variables {
			if _, err := k.symbols.Addr(v); err != nil {
				t.Error(err)
			}
		}
		for _, v := range unexported {
			if _, err := k.symbols.Addr(v); err != nil && configured(t, k.Arch(), "CONFIG_KALLSYMS_ALL") {
				t.Error(err)
			}
		}
		if _, err := k.fields.get("task_struct.nonsense"); !errors.Is(err, ErrMissing) {
			t.Errorf("a member that is not there: %v", err)
		}
	})
}

// updateMembers writes the table of members that made-up guests are laid out by.
var updateMembers = flag.Bool("update", false, "write "+membersFile)

// The table of members is that of a kernel that is here, if it is the same.
func TestMembersTable(t *testing.T) {
	realKernels(t, func(t *testing.T, k *Kernel, _ *image) {
		if k.arch != "amd64" {
			return
		}
		var b strings.Builder
		names := slices.Concat(members, laid)
		for _, c := range choices {
			names = append(names, c...)
		}
		slices.Sort(names)
		for _, m := range slices.Compact(names) {
			if f, err := k.fields.get(m); err == nil {
				fmt.Fprintln(&b, m, f.off, f.size)
			}
		}
		if *updateMembers {
			if err := os.WriteFile(membersFile, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// laid are members that are filled in beside those that walks need.
var laid = []string{
	"file.f_path", "path.mnt", "path.dentry", "dentry.d_name.name", "dentry.d_name.hash_len", "dentry.d_inode",
	"mount.mnt_mountpoint", "mount.mnt_devname", "vfsmount.mnt_root", "super_block.s_type", "file_system_type.name",
	"module_memory.", "module_memory.base", "module_memory.size", "inet_listen_hashbucket.", "udp_hslot.", "kernfs_node.parent",
	"maple_tree.ma_root", "maple_range_64.pivot", "maple_range_64.slot", "maple_arange_64.pivot", "maple_arange_64.slot", "net.ns.inum",
	"mm_struct.context.vdso", "mm_struct.mm_mt",
}
