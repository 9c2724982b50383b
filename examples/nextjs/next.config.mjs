// The chat's requests go to the Python server, so that page and server have one origin.
export default {
  rewrites: async () => [{ source: "/api/:path*", destination: "http://127.0.0.1:8000/api/:path*" }],
};
