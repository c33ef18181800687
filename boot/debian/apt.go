package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// apt runs apt's programs with a state of their own: lists, cache and status
// are in dir, the sources and the way to reach them are the machine's.
type apt struct {
	dir   string
	conf  string
	arch  string
	suite string // one more than the machine has, or empty
}

// newApt says where the state is; setUp has to make it.
func newApt(cfg Config) (apt, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return apt{}, errors.New("apt-get is missing: this machine is not a Debian one")
	}
	if cfg.Arch == "" {
		cfg.Arch = runtime.GOARCH
	}
	if strings.Trim(cfg.Arch, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return apt{}, fmt.Errorf("architecture %q: has to be a name such as amd64", cfg.Arch)
	}
	suite, err := suiteName(cfg.Suite)
	if err != nil {
		return apt{}, err
	}
	dir, err := filepath.Abs(filepath.Join(cfg.StateDir, strings.TrimRight(cfg.Arch+"-"+suite, "-")))
	if err != nil {
		return apt{}, err
	}
	return apt{dir: dir, conf: filepath.Join(dir, "apt.conf"), arch: cfg.Arch, suite: suite}, os.MkdirAll(dir, 0o755)
}

// setUp writes the configuration.
func (a apt) setUp(ctx context.Context) error {
	for _, d := range []string{"lists/partial", "cache/archives/partial", "sources"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(a.conf, []byte(a.configuration()), 0o644); err != nil {
		return err
	}
	if a.suite == "" {
		return nil
	}
	return a.linkSources(ctx)
}

// configuration is read behind the machine's own, and goes before it. The
// machine counts as one of the wanted architecture with nothing installed; what
// the machine does after an update of its own lists is not done.
func (a apt) configuration() string {
	var b strings.Builder
	for _, list := range []string{
		"APT::Architectures", "APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success",
	} {
		fmt.Fprintf(&b, "#clear %s;\n", list)
	}
	set := func(name, value string) { fmt.Fprintf(&b, "%s %q;\n", name, value) }
	set("APT::Architecture", a.arch)
	set("APT::Architectures::", a.arch)
	set("APT::Sandbox::User", "") // as root, apt would change to a user that cannot write here
	set("Acquire::Languages", "none")
	for _, target := range []string{"DEP-11", "DEP-11-icons-small", "DEP-11-icons", "Contents-deb"} {
		set("Acquire::IndexTargets::deb::"+target+"::DefaultEnabled", "false")
	}
	set("Dir::State", a.dir)
	set("Dir::State::lists", "lists")
	set("Dir::State::status", filepath.Join(a.dir, "status"))
	set("Dir::Cache", filepath.Join(a.dir, "cache"))
	// Container images switch these off; without them each call parses all lists.
	set("Dir::Cache::pkgcache", "pkgcache.bin")
	set("Dir::Cache::srcpkgcache", "srcpkgcache.bin")
	if a.suite != "" {
		set("Dir::Etc::sourcelist", "/dev/null")
		set("Dir::Etc::sourceparts", filepath.Join(a.dir, "sources"))
		set("APT::Default-Release", a.suite)
	}
	return b.String()
}

// suiteName completes a suffix by the machine's release.
func suiteName(suite string) (string, error) {
	if strings.ContainsAny(suite, " \t\n\"/;") {
		return "", fmt.Errorf("suite %q: has to be a name such as bookworm-backports", suite)
	}
	if !strings.HasPrefix(suite, "-") {
		return suite, nil
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(release)) {
		if name, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			return strings.Trim(name, "\"\n") + suite, nil
		}
	}
	return "", errors.New("/etc/os-release names no VERSION_CODENAME: this machine is not a Debian one")
}

// linkSources makes a place for the machine's sources to which one can be added.
func (a apt) linkSources(ctx context.Context) error {
	sources := filepath.Join(a.dir, "sources")
	old, err := filepath.Glob(filepath.Join(sources, "*"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	out, err := run(ctx, "", nil, "apt-config", "shell", "list", "Dir::Etc::sourcelist/f", "parts", "Dir::Etc::sourceparts/d")
	if err != nil {
		return err
	}
	paths := shellVariables(out)
	var files []string
	for _, pattern := range []string{"*.list", "*.sources"} {
		fs, err := filepath.Glob(filepath.Join(paths["parts"], pattern))
		if err != nil {
			return err
		}
		files = append(files, fs...)
	}
	for _, f := range files {
		if err := os.Symlink(f, filepath.Join(sources, filepath.Base(f))); err != nil {
			return err
		}
	}
	if _, err := os.Stat(paths["list"]); err != nil {
		return nil // a machine may have none
	}
	return os.Symlink(paths["list"], filepath.Join(sources, "machine-sources.list"))
}

// addSuite adds the suite to the sources, whose lists have to be there already:
// apt tells of no others. It reports whether it had to.
func (a apt) addSuite(ctx context.Context) (added bool, err error) {
	out, err := run(ctx, "", nil, "apt-get", "-c", a.conf, "indextargets",
		"--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
	if err != nil {
		return false, err
	}
	mirror, known, err := mirrorOf(a.suite, string(out))
	if err != nil || known {
		return false, err
	}
	options := ""
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err == nil {
		options = "[signed-by=" + keyring + "] "
	}
	line := fmt.Sprintf("deb %s%s %s main\n", options, mirror, a.suite)
	return true, os.WriteFile(filepath.Join(a.dir, "sources", "added-"+a.suite+".list"), []byte(line), 0o644)
}

// mirrorOf finds in lines "URI RELEASE COMPONENT" where the machine gets the
// release from that suite belongs to; known means that it gets suite, too.
func mirrorOf(suite, targets string) (uri string, known bool, err error) {
	release, _, _ := strings.Cut(suite, "-")
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "main" {
			continue
		}
		if f[1] == suite {
			return "", true, nil
		}
		if f[1] == release || uri == "" && strings.HasSuffix(f[1], "stable") {
			uri = f[0]
		}
	}
	if uri == "" {
		return "", false, fmt.Errorf("no package source for %s is configured, so there is no mirror to take %s from", release, suite)
	}
	return uri, false, nil
}

// get runs apt-get in dir and reports progress in percent.
func (a apt) get(ctx context.Context, dir string, report func(percent float64), args ...string) error {
	_, err := run(ctx, dir, report, "apt-get", append([]string{"-c", a.conf, "-q", "-o", "APT::Status-Fd=3"}, args...)...)
	return err
}

func (a apt) cache(ctx context.Context, args ...string) ([]byte, error) {
	return run(ctx, "", nil, "apt-cache", append([]string{"-c", a.conf, "-q"}, args...)...)
}

// A file is a package as the lists describe it.
type file struct {
	name   string // of the .deb
	size   int64
	sha256 string
}

// locate finds the files of packages.
func (a apt) locate(ctx context.Context, names []string) (files []file, err error) {
	for _, name := range names {
		// One call a package: apt answers in an order of its own. In a directory of
		// ours: it prints no address of a file that is there already.
		out, err := run(ctx, a.dir, nil, "apt-get", "-c", a.conf, "-q", "--print-uris", "download", name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f, err := parseURI(string(out))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// parseURI reads a line of --print-uris: 'URI' FILE SIZE SHA256:DIGEST.
func parseURI(out string) (file, error) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 || !strings.HasPrefix(f[0], "'") {
			continue
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		sum, ok := strings.CutPrefix(f[3], "SHA256:")
		if err != nil || !ok || filepath.Base(f[1]) != f[1] {
			continue
		}
		return file{name: f[1], size: size, sha256: sum}, nil
	}
	return file{}, fmt.Errorf("apt-get printed no address of it: %q", out)
}

// whole tells whether the file at path is this one.
func (f file) whole(path string) bool {
	r, err := os.Open(path)
	if err != nil {
		return false
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	return err == nil && n == f.size && hex.EncodeToString(sum.Sum(nil)) == f.sha256
}

// run runs a program of apt's and returns what it printed. Its errors are what
// it said of them.
func run(ctx context.Context, dir string, report func(percent float64), name string, args ...string) ([]byte, error) {
	var out, diagnosis bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &diagnosis
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = 5 * time.Second // its download methods may outlive it
	var err error
	if report == nil {
		err = cmd.Run()
	} else {
		err = runReporting(cmd, report)
	}
	if err == nil {
		return out.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, explain(name, diagnosis.String(), err)
}
