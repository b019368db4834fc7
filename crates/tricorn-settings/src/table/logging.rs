//! Error log, access log and metrics.
use super::{Setting, UNSET, map, text, truth};
use crate::kind::Kind::*;

#[rustfmt::skip]
pub(super) const LOGGING: &[Setting] = &[
    Setting::new("accesslog", Text, UNSET).flags(&["--access-logfile"]).metavar("FILE")
        .help("Destination of the access log; \"-\" is stdout, unset disables it."),
    Setting::new("disable_redirect_access_to_syslog", Bool, truth(false)).flags(&["--disable-redirect-access-to-syslog"])
        .help("Keep access lines out of syslog even when syslog is on."),
    Setting::new("access_log_format", Text, text("%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"")).flags(&["--access-logformat"]).metavar("STRING")
        .help("Percent-style template for access log lines."),
    Setting::new("errorlog", Text, text("-")).flags(&["--error-logfile", "--log-file"]).metavar("FILE")
        .help("Destination of the error log; \"-\" is stderr."),
    Setting::new("loglevel", Text, text("info")).flags(&["--log-level"]).metavar("LEVEL")
        .help("Threshold of the error log: debug, info, warning, error or critical."),
    Setting::new("capture_output", Bool, truth(false)).flags(&["--capture-output"])
        .help("Send stdout and stderr to the error log file descriptor."),
    Setting::new("logger_class", Class, text("tricorn.glogging.Logger")).flags(&["--logger-class"]).metavar("STRING")
        .help("Logger implementation used by master and workers."),
    Setting::new("logconfig", Text, UNSET).flags(&["--log-config"]).metavar("FILE")
        .help("Path to an ini-style logging.config file."),
    Setting::new("logconfig_dict", Map, map(&[]))
        .help("Dictionary merged over defaults and given to logging.config.dictConfig."),
    Setting::new("logconfig_json", Text, UNSET).flags(&["--log-config-json"]).metavar("FILE")
        .help("Path to a JSON file holding a dictConfig dictionary."),
    Setting::new("syslog_addr", Text, text("udp://localhost:514")).flags(&["--log-syslog-to"]).metavar("SYSLOG_ADDR")
        .help("Where syslog messages are sent (udp, tcp or unix socket)."),
    Setting::new("syslog", Bool, truth(false)).flags(&["--log-syslog"])
        .help("Also send logs to syslog."),
    Setting::new("syslog_prefix", Text, UNSET).flags(&["--log-syslog-prefix"]).metavar("SYSLOG_PREFIX")
        .help("Program name used in syslog lines, after \"gunicorn.\"."),
    Setting::new("syslog_facility", Text, text("user")).flags(&["--log-syslog-facility"]).metavar("SYSLOG_FACILITY")
        .help("Syslog facility name."),
    Setting::new("enable_stdio_inheritance", Bool, truth(false)).flags(&["-R", "--enable-stdio-inheritance"])
        .help("In daemon mode keep non-terminal stdout and stderr open."),
    Setting::new("statsd_host", StatsdAddress, UNSET).flags(&["--statsd-host"]).metavar("STATSD_ADDR").not_yet()
        .help("StatsD server address; setting it enables metrics."),
    Setting::new("dogstatsd_tags", Text, text("")).flags(&["--dogstatsd-tags"]).metavar("DOGSTATSD_TAGS").not_yet()
        .help("Datadog tags appended to every metric."),
    Setting::new("statsd_prefix", Text, text("")).flags(&["--statsd-prefix"]).metavar("STATSD_PREFIX").not_yet()
        .help("Text put in front of every metric name."),
    Setting::new("enable_backlog_metric", Bool, truth(false)).flags(&["--enable-backlog-metric"]).not_yet()
        .help("Emit the listen queue length as a metric (Linux)."),
];
