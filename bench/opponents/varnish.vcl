# Varnish as a reverse proxy on one core: the job of bench/README.md. Words in {{braces}} are filled in for each trial.
# Nothing is cached: it does the work of a proxy, like the others. It has a thread for each request under way, and its
# log stays in shared memory, where nobody reads it.
vcl 4.1;

backend origin {
    .host = "{{origin_host}}";
    .port = "{{origin_port}}";
}

sub vcl_recv {
    return (pass);
}
