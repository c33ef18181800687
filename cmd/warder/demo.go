package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor"
	"warder/supervisor/declaration"
)

// demoShare is where the VMs of the demonstration have their common share.
const demoShare = "/mnt/share"

// The script of the attack: what is on the share, and what each VM adds. Joined
// it switches off address-space randomisation in the VM that runs it; no part
// says so. Its first line leaves a mark where it has run.
const (
	demoScript = "#!/bin/sh\necho ran > " + demoShare + "/%s.ran\n"
	demoFirst  = "echo 0 > /proc/sys/kernel/"
	demoSecond = "randomize_va_space\n"
)

// demoRules is the file of the one rule that the demonstration is about.
const demoRules = "host_parameter_splice.yaml"

// demoConfig is three VMs with one share.
func demoConfig(dir string) []hostVM {
	var vms []hostVM
	for _, name := range []string{"a", "b", "c"} {
		vms = append(vms, hostVM{Service: declaration.Service{Name: name}, spec: supervisor.Spec{Shares: []supervisor.Share{{Host: dir, Guest: demoShare}}}})
	}
	return vms
}

// demo is a host whose VMs act as they are told.
type demo struct {
	*host
	dir string
	out *printer
}

// sh runs a shell command in a VM and gives its exit status.
func (d *demo) sh(ctx context.Context, vm, command string, out io.Writer) (int, error) {
	status, err := d.vms[vm].Run(ctx, proto.Command{Args: []string{"sh", "-c", command}}, control.Stdio{Out: out, Err: out})
	if err != nil {
		return 0, fmt.Errorf("vm %s: %w", vm, err)
	}
	return status.ExitCode(), nil
}

// attack is which VM does which act of an attack, "" for an act left out.
type attack struct {
	first, second, run string
}

// outcome is what came of an attack.
type outcome struct {
	status int    // of running the script; -1 when nobody did
	said   string // by the shell that ran it
	ran    bool   // the script left its mark
	// randomize is the kernel parameter in the VM that ran it, "" without one.
	randomize string
}

// perform carries an attack out on a fresh script of that name.
func (d *demo) perform(ctx context.Context, name string, a attack) (outcome, error) {
	o := outcome{status: -1}
	script := filepath.Join(d.dir, name)
	if err := os.WriteFile(script, fmt.Appendf(nil, demoScript, name), 0o755); err != nil {
		return o, err
	}
	for _, part := range []struct{ vm, text string }{{a.first, demoFirst}, {a.second, demoSecond}} {
		if part.vm == "" {
			continue
		}
		command := fmt.Sprintf("printf %%s '%s' >> %s/%s", part.text, demoShare, name)
		if status, err := d.sh(ctx, part.vm, command, io.Discard); err != nil || status != 0 {
			return o, errors.Join(err, fmt.Errorf("vm %s: writing ended with status %d", part.vm, status))
		}
	}
	if a.run != "" {
		var said, parameter strings.Builder
		var err error
		if o.status, err = d.sh(ctx, a.run, demoShare+"/"+name, &said); err != nil {
			return o, err
		}
		o.said = strings.TrimSpace(said.String())
		if _, err = d.sh(ctx, a.run, "cat /proc/sys/kernel/randomize_va_space", &parameter); err != nil {
			return o, err
		}
		o.randomize = strings.TrimSpace(parameter.String())
	}
	_, err := os.Stat(script + ".ran")
	o.ran = err == nil
	return o, nil
}

// runDemo shows harmless work, then an attack, and judges what came of it.
func runDemo(ctx context.Context, cfg hostConfig, out *printer) error {
	dir, err := os.MkdirTemp("", "warder-demo-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	cfg.VMs = demoConfig(dir)
	out.say("Starting three VMs, a, b and c, with one share in common.")
	cfg.shipped = demoRules
	h, err := startHost(ctx, cfg, out)
	if err != nil {
		return failed(err)
	}
	d := &demo{host: h, dir: dir, out: out}
	err = d.play(ctx)
	if stopErr := h.stop(); stopErr != nil {
		fmt.Fprintln(os.Stderr, "warder:", stopErr)
	}
	if err != nil {
		return failed(err)
	}
	return d.judge()
}

// play is the scenes of the demonstration.
func (d *demo) play(ctx context.Context) error {
	d.out.say("\nHarmless work: a writes a script, b adds to it, c runs it.")
	for _, step := range []struct{ vm, command string }{
		{"a", `printf '#!/bin/sh\necho hello from a\n' > ` + demoShare + "/hello && chmod +x " + demoShare + "/hello"},
		{"b", `printf 'echo and from b\n' >> ` + demoShare + "/hello"},
		{"c", demoShare + "/hello"},
	} {
		lines := d.out.lines(step.vm)
		status, err := d.sh(ctx, step.vm, step.command, lines)
		lines.Close()
		if err != nil || status != 0 {
			return errors.Join(err, fmt.Errorf("vm %s: harmless work ended with status %d", step.vm, status))
		}
	}
	d.out.say("\nAn attack: a and b each add half a line to a script on the share, c runs it.")
	o, err := d.perform(ctx, "update", attack{first: "a", second: "b", run: "c"})
	if err != nil {
		return err
	}
	d.out.note("c", fmt.Sprintf("the shell ended with status %d: %s", o.status, o.said))
	switch {
	case o.ran || o.randomize == "0":
		return errors.New("the attack went through")
	case o.status == 0:
		return errors.New("the script did not run, and the shell did not say so")
	}
	d.out.note("c", "the script has not run; randomize_va_space is still "+o.randomize)
	return nil
}

// judge ends the demonstration: one alert, naming the three.
func (d *demo) judge() error {
	d.out.summary(d.watch.Stats())
	alerts := d.out.found()
	if len(alerts) != 1 {
		return failed(fmt.Errorf("%d alerts, and there should be one", len(alerts)))
	}
	if vms := strings.Join(alerts[0].Finding.VMs, " "); vms != "a b c" {
		return failed(fmt.Errorf("the alert names %s", vms))
	}
	return nil
}
