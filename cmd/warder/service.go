package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/supervisor/api"
	"warder/supervisor/declaration"
	"warder/supervisor/services"
)

// serviceFlags are what the commands about services have in common.
type serviceFlags struct {
	host   int
	socket string
	output string

	url, cert, key, ca string // of a host that is reached over the network
}

func serviceCommand() *cobra.Command {
	f := &serviceFlags{}
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Start, look after and stop the services of a host",
		Long: `A service is declared in the file of warder host, or with "warder service add",
and started when somebody asks, in a VM of its own. It is started only if the
machine has all that it needs, beside all that others have been granted.`,
		Example: `  warder service lint web.yaml
  warder service start web
  warder service logs -f web`,
	}
	f.addTo(cmd)
	cmd.AddCommand(
		f.ls(), f.show(), f.add(), f.start(), f.stop(), f.wait(), f.rm(), f.logs(), f.console(), f.events(),
		f.stats(), f.top(), f.exec(), f.attach(), f.resources(), lintCommand(), schemaCommand(),
	)
	return cmd
}

func (f *serviceFlags) addTo(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.IntVar(&f.host, "host", 0, "pid of the warder host that is meant (default the only one)")
	flags.StringVar(&f.socket, "socket", "", "socket that a host shares with other users (default the host of this user)")
	flags.StringVar(&f.url, "url", "", "host to reach over the network, https://HOST:PORT (default $WARDER_URL)")
	flags.StringVar(&f.cert, "cert", "", "certificate to show it (default $WARDER_CERT)")
	flags.StringVar(&f.key, "key", "", "key of the certificate (default $WARDER_KEY)")
	flags.StringVar(&f.ca, "ca", "", "certificates of who vouches for the host (default $WARDER_CA, or the system's)")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
}

// on runs a command with the host that it is about.
func (f *serviceFlags) on(run func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(f.output); err != nil {
			return err
		}
		h, err := f.find(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		return run(cmd.Context(), h, cmd, args)
	}
}

func (f *serviceFlags) find(ctx context.Context) (*api.Host, error) {
	switch here := f.socket != "" || f.host != 0; {
	case here && f.url != "":
		return nil, errors.New("give one of --host, --socket and --url")
	case f.socket != "":
		return api.HostAt(f.socket), nil
	case !here && cmp.Or(f.url, os.Getenv("WARDER_URL")) != "":
		return api.HostByURL(cmp.Or(f.url, os.Getenv("WARDER_URL")),
			cmp.Or(f.cert, os.Getenv("WARDER_CERT")), cmp.Or(f.key, os.Getenv("WARDER_KEY")), cmp.Or(f.ca, os.Getenv("WARDER_CA")))
	}
	return api.FindHost(ctx, api.Dir(), f.host)
}

// named makes a command about one service.
func (f *serviceFlags) named(use, short string, run func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1), RunE: f.on(run), ValidArgsFunction: f.complete}
}

// complete completes the name of a service.
func (f *serviceFlags) complete(cmd *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	h, err := f.find(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer h.Close()
	all, _ := h.Services(cmd.Context()) // without an answer there is nothing to complete
	for _, s := range all {
		words = append(words, s.Name+"\t"+string(s.State))
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

func (f *serviceFlags) ls() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the services of the host", Args: cobra.NoArgs,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, _ []string) error {
			all, err := h.Services(ctx)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), all)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSTATE\tSINCE\tSTARTS\tHEALTH\tWHY")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Name, s.State, ago(s.Since), s.Starts, short(s.Health), short(s.Why))
			}
			return w.Flush()
		}),
	}
}

func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() }

// short is as much of a reason as a table has room for.
func short(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return printable(s)
}

func (f *serviceFlags) show() *cobra.Command {
	return f.named("show", "Show all that is known of a service", func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
		s, err := h.Service(ctx, args[0])
		if err != nil {
			return err
		}
		if f.output == "json" {
			return printJSON(cmd.OutOrStdout(), s)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		row := func(name string, value any) {
			if text := printable(fmt.Sprint(value)); text != "" && text != "[]" && text != "map[]" {
				fmt.Fprintf(w, "%s\t%s\n", name, text)
			}
		}
		d := s.Service
		row("name", s.Name)
		row("state", string(s.State)+" for "+ago(s.Since))
		row("why", s.Why)
		row("health", s.Health)
		row("started by", s.By)
		row("starts", s.Starts)
		if s.Exit != nil {
			row("last exit", s.Exit.ExitCode())
		}
		row("image", d.Image)
		row("overlay", d.Overlay)
		row("command", fmt.Sprintf("%q", d.Command))
		cpus := fmt.Sprint(d.CPUs)
		if d.CPUsMin > 0 {
			cpus = fmt.Sprintf("%d to %d", d.CPUsMin, d.CPUs)
		}
		row("cpus", cpus)
		row("priority", d.Priority)
		row("memory", d.Memory.String())
		for name, list := range map[string][]string{"disks": d.Disks, "shares": d.Shares, "nets": d.Nets, "pmems": d.Pmems, "ports": d.Ports} {
			row(name, list)
		}
		if l := d.LAN; l != nil {
			row("vlan", strings.TrimSpace(strings.Join(append([]string{l.VLAN}, l.Trunk...), " ")))
			row("publish", l.Publish)
		}
		row("secrets", d.Secrets)
		if d.Health != nil {
			row("health check", fmt.Sprintf("%q every %v, at most %v, %d failures", d.Health.Command, d.Health.Interval, d.Health.Timeout, d.Health.Retries))
		}
		if o := d.OnDemand; o != nil {
			row("on demand", fmt.Sprintf("by connections, at %v; idle after %v", o.Sockets, o.Idle))
		}
		restart := d.Restart.Policy
		if restart != declaration.RestartNever {
			restart += fmt.Sprintf(", after %v up to %v", d.Restart.Delay, d.Restart.MaxDelay)
		}
		row("restart", restart)
		row("stop timeout", d.StopTimeout)
		return w.Flush()
	})
}

// told prints what became of a service.
func (f *serviceFlags) told(cmd *cobra.Command, s services.Status) error {
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), s)
	}
	text := string(s.State)
	if s.Why != "" {
		text += ": " + s.Why
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", s.Name, printable(text))
	return err
}

func (f *serviceFlags) resources() *cobra.Command {
	return &cobra.Command{
		Use: "resources", Short: "Show what the machine has, and who holds it", Args: cobra.NoArgs,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, _ []string) error {
			b, err := h.Resources(ctx)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), b)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			printResources(w, b, "-")
			fmt.Fprintln(w, "\nHOLDER\tVCPUS\tMEMORY\tUSED\tTHINGS")
			for _, g := range b.Grants {
				things := ""
				for _, t := range g.Things {
					things += t.Kind + " " + t.Name + " "
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", g.Holder, g.VCPUs, humanize.IBytes(g.Memory), humanize.IBytes(g.Used), printable(things))
			}
			printWaiting(w, b.Waiting)
			return w.Flush()
		}),
	}
}
